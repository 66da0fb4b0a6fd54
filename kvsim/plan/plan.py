"""From the configuration to numbers an engine runs on: blocks, budgets, step times, racks and links."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvsim import room
from kvsim.config import Config, derived
from kvsim.errors import ConfigError
from kvsim.plan.build_step_time import build_step_time
from kvsim.plan.engine_settings import EngineSettings
from kvsim.policy.scheduling import ORDERS
from kvsim.spec import InstanceSpec, find_gpu, find_model
from kvsim.steptime import StepTime
from kvsim.units import GB, GIB, TERA

ROLES = ("prefill", "decode")
INSTANCE_BYTES, TIERED_INSTANCE_BYTES = 15_000, 22_000
"""Memory of an instance that has served a request, without and with tiers below it; without the blocks it holds."""


@dataclass(frozen=True)
class Side:
    """What the instances of one role run on."""

    spec: InstanceSpec
    step_time: StepTime
    nic_bytes_per_s: float
    """Bytes/s of the NICs of all GPUs of an instance together, as achieved."""

    @property
    def degree(self) -> int:
        return self.spec.tensor_parallel


@dataclass(frozen=True)
class Place:
    """Where one instance stands."""

    is_prefill: bool
    host: int
    rack: int


@dataclass(frozen=True)
class Plan:
    """One cluster, ready to be built as either system: the same GPUs, cut into instances by either's degrees."""

    config: Config
    spec: InstanceSpec
    """Instances of the unified system, as ``step_time`` and ``nic_bytes_per_s`` are of them."""
    step_time: StepTime
    num_instances: int
    num_prefill: int
    num_decode: int
    prefill_settings: EngineSettings
    decode_settings: EngineSettings
    colocated_settings: EngineSettings
    kv_bytes_per_token: float
    """On the wire to a decode instance: after compression, each copy of a KV head once."""
    nic_bytes_per_s: float
    tiers: tuple[str, ...] = ()
    """Below the caches of the instances that compute prompts, the nearest first."""
    own_prefill: Side | None = None
    """What prefill instances run on where that differs from the unified system's; ``None``: it does not."""
    own_decode: Side | None = None

    @property
    def colocated(self) -> Side:
        return Side(self.spec, self.step_time, self.nic_bytes_per_s)

    @property
    def prefill(self) -> Side:
        return self.own_prefill or self.colocated

    @property
    def decode(self) -> Side:
        return self.own_decode or self.colocated

    @property
    def degrees(self) -> tuple[int, int]:
        """GPUs of a prefill and of a decode instance."""
        return self.prefill.degree, self.decode.degree

    @property
    def pair_bytes_per_s(self) -> float:
        """Between a prefill and a decode instance that have their NICs to themselves."""
        return min(self.prefill.nic_bytes_per_s, self.decode.nic_bytes_per_s)

    @property
    def num_gpus(self) -> int:
        return self.num_instances * self.spec.tensor_parallel

    @property
    def num_racks(self) -> int:
        return -(-self.num_gpus // self.config.cluster.simulate_gpus_per_rack)

    @property
    def most_prefill(self) -> int:
        """Prefill instances that leave room for a decode instance."""
        prefill, decode = self.degrees
        return (self.num_gpus - decode) // prefill

    def decode_beside(self, num_prefill: int) -> int:
        """Decode instances on the GPUs that so many prefill instances leave."""
        prefill, decode = self.degrees
        return (self.num_gpus - num_prefill * prefill) // decode

    def places(self) -> list[Place]:
        """Where the PD system's instances stand: roles spread evenly over racks, nobody across the edge of a host."""
        prefill, decode = self.degrees
        config, roles = self.config.cluster, self.interleaved_roles()
        per_host, per_rack = config.network.gpus_per_host, config.simulate_gpus_per_rack
        if prefill == decode:
            first_gpus = [place * prefill for place in range(len(roles))]
        else:
            first_gpus = first_fit([prefill if role else decode for role in roles], per_host)
        return [Place(role, gpu // per_host, gpu // per_rack) for role, gpu in zip(roles, first_gpus, strict=True)]

    def unified_places(self) -> list[Place]:
        """Where the unified system's instances stand, one after the other."""
        config, degree = self.config.cluster, self.spec.tensor_parallel
        per_host, per_rack = config.network.gpus_per_host, config.simulate_gpus_per_rack
        firsts = [instance * degree for instance in range(self.num_instances)]
        return [Place(False, gpu // per_host, gpu // per_rack) for gpu in firsts]

    def interleaved_roles(self) -> list[bool]:
        """For each place, whether a prefill instance stands there: the roles spread evenly."""
        total, prefill = self.num_prefill + self.num_decode, self.num_prefill
        return [(place + 1) * prefill // total > place * prefill // total for place in range(total)]

    def with_counts(self, num_prefill: int, num_decode: int) -> Plan:
        return replace(self, num_prefill=num_prefill, num_decode=num_decode)

    def sized(self, num_instances: int, num_prefill: int) -> Plan:
        """A cluster of the GPUs of that many unified instances, with so many prefill instances."""
        sized = replace(self, num_instances=num_instances, num_prefill=num_prefill)
        return replace(sized, num_decode=sized.decode_beside(num_prefill))

    def scaled_to(self, num_instances: int) -> Plan:
        """A cluster of fewer instances with the same ratio of roles, as near as whole instances come."""
        scaled = replace(self, num_instances=max(num_instances, -(-sum(self.degrees) // self.spec.tensor_parallel)))
        num_prefill = round(scaled.num_instances * self.num_prefill / self.num_instances)
        return scaled.sized(scaled.num_instances, min(max(num_prefill, 1), scaled.most_prefill))

    def without_restart(self) -> Plan:
        """A plan of this cluster in which it never loses its memory: short runs ask what it is like in between."""
        if self.config.cache.restart_after_requests is None:
            return self
        cache = self.config.cache.model_copy(update={"restart_after_requests": None})
        return replace(self, config=self.config.model_copy(update={"cache": cache}))

    def with_colocated_budget(self, tokens: int) -> Plan:
        """A plan with another token budget for the unified baseline; never more seats than tokens."""
        seats = min(self.colocated_settings.max_num_seqs, tokens)
        settings = replace(self.colocated_settings, max_num_batched_tokens=tokens, max_num_seqs=seats)
        return replace(self, colocated_settings=settings)


def make_plan(config: Config, *, stepwise: bool = False) -> Plan:
    """Raises ``ConfigError`` or ``CapacityError`` where the configuration cannot be built."""
    check_instances(derived.instances(config), "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
    spec = instance_spec(config)
    num_prefill, num_decode = derived.pd_counts(config)
    degrees = zip(ROLES, derived.pd_degrees(config), strict=True)
    own = [_own_side(config, spec, role, degree) for role, degree in degrees]
    prefill_spec, decode_spec = (spec if side is None else side.spec for side in own)
    engine = config.engine
    ORDERS.check(config)
    common = EngineSettings(
        num_blocks=spec.num_blocks - 1,
        block_size=spec.block_size_tokens,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_num_seqs=engine.max_num_seqs,
        max_model_len=config.model.max_model_len,
        enable_prefix_caching=engine.enable_prefix_caching,
        enable_chunked_prefill=True,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        watermark=engine.watermark,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
        batching=engine.batching,
        async_scheduling=engine.async_scheduling,
        scheduling_policy=engine.scheduling_policy,
        prefix_cache=config.cache.prefix_cache,
        stepwise=stepwise,
    )
    prefill = replace(
        common,
        num_blocks=prefill_spec.num_blocks - 1,
        max_num_batched_tokens=derived.prefill_token_budget(config),
        enable_chunked_prefill=config.pd_separation.chunked_prefill,
    )
    transfer = config.pd_separation.transfer
    return Plan(
        config=config,
        spec=spec,
        step_time=build_step_time(config, spec),
        num_instances=derived.instances(config),
        num_prefill=num_prefill,
        num_decode=num_decode,
        prefill_settings=prefill,
        decode_settings=replace(
            common,
            num_blocks=decode_spec.num_blocks - 1,
            output_margin_tokens=config.pd_separation.output_margin_tokens,
            batching="continuous",
        ),
        colocated_settings=common,
        kv_bytes_per_token=decode_spec.kv_bytes_per_token / transfer.compression_ratio,
        nic_bytes_per_s=derived.nic_bytes_per_s_per_gpu(config) * spec.tensor_parallel,
        tiers=config.pd_separation.tiers,
        own_prefill=own[0],
        own_decode=own[1],
    )


def check_instances(instances: int, keys: str) -> None:
    """Raise ``CapacityError`` where so many would not fit this machine's memory; ``keys`` say how many there are."""
    fits = f"up to about {room.about(room.most(INSTANCE_BYTES))} would fit; see {keys}"
    room.require(instances * INSTANCE_BYTES, f"{instances:,} instances", fits)


def _own_side(config: Config, colocated: InstanceSpec, role: str, degree: int) -> Side | None:
    if degree == colocated.tensor_parallel:
        return None
    if config.steptime.method != "roofline":
        raise ConfigError(
            f"pd_separation.{role}_tensor_parallel_size = {degree} beside engine.tensor_parallel_size = "
            f"{colocated.tensor_parallel}: a profile's times are of one degree; give steptime.method 'roofline'"
        )
    key = f"pd_separation.{role}_tensor_parallel_size"
    spec = replace(colocated, tensor_parallel=degree, tensor_parallel_key=key)
    return Side(spec, build_step_time(config, spec), derived.nic_bytes_per_s_per_gpu(config) * degree)


def first_fit(degrees: list[int], gpus_per_host: int) -> list[int]:
    """The first GPU of each instance: the first host with room, or as many whole new hosts as it takes."""
    found: list[int] = []
    begun: list[list[int]] = []
    """Hosts with room: their next GPU and how many are left."""
    end = 0
    for degree in degrees:
        host = next((host for host in begun if host[1] >= degree), None)
        if host is None:
            host = [end, -(-degree // gpus_per_host) * gpus_per_host]
            end += host[1]
            begun.append(host)
        found.append(host[0])
        host[0] += degree
        host[1] -= degree
        if not host[1]:
            begun.remove(host)
    return found


def instance_spec(config: Config) -> InstanceSpec:
    """The model on its GPUs, with what the configuration replaces of the known ones."""
    model, gpu = find_model(config.model.name), find_gpu(config.hardware.gpu)
    params_billions = derived.params_billions(config)
    if params_billions is not None:
        if params_billions * 1e9 <= model.expert_params:
            raise ConfigError(
                f"model.params_billions = {params_billions:g}: must be above the {model.expert_params / 1e9:.2f} that "
                f"the routed experts of {model.name} have"
            )
        model = replace(model, params=params_billions * 1e9)
    if config.hardware.memory_gib is not None:
        gpu = replace(gpu, memory_bytes=config.hardware.memory_gib * GIB)
    hbm_bytes_per_s = derived.hbm_read_bytes_per_s_override(config)
    if hbm_bytes_per_s is not None:
        gpu = replace(gpu, hbm_bytes_per_s=hbm_bytes_per_s)
    if config.hardware.peak_tflops is not None:
        peak_flops = config.hardware.peak_tflops * TERA
        gpu = replace(gpu, bf16_flops=peak_flops, fp8_flops=peak_flops)
    return InstanceSpec(
        model=model,
        gpu=gpu,
        tensor_parallel=config.engine.tensor_parallel_size,
        weight_dtype=config.model.weight_dtype,
        kv_dtype=config.model.kv_dtype,
        block_size_tokens=derived.block_size(config),
        memory_utilisation=config.engine.gpu_memory_utilization,
        non_kv_bytes_per_gpu=config.engine.non_kv_gb_per_gpu * GB,
        kv_bytes_per_token_override=derived.kv_bytes_per_token_override(config),
        kv_capacity_bytes_per_gpu=derived.kv_capacity_bytes_per_gpu_override(config),
        num_blocks_override=config.engine.num_gpu_blocks_override,
        block_size_key=derived.block_size_key(config),
        kv_size_key=derived.kv_size_key(config),
        kv_capacity_key=derived.kv_capacity_key(config),
        expert_parallel=derived.expert_parallel(config),
    )
