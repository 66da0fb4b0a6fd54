"""One engine on its GPUs: from vLLM's arguments to a configuration, and from that to what an instance runs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kvsim.config import Config, Given, LoadedConfig, derived, load_config
from kvsim.config.kinds import of_role
from kvsim.config.load import set_values
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.plan.build_step_time import KnownStepTime, build_step_time
from kvsim.plan.data_parallel import check_experts
from kvsim.plan.engine_settings import AdapterLoads, EngineSettings
from kvsim.plan.kv_groups import is_hybrid, kv_groups_of
from kvsim.plan.nearest_profile import NearestProfile
from kvsim.plan.offloading import offloading_keys
from kvsim.plan.pipeline import no_groups, pipeline_layers_of
from kvsim.plan.scheduler_rules import reserves_whole, rules_of, watermark_of
from kvsim.plan.sglang_scheduler import sglang_settings
from kvsim.plan.speculation import drafter_of, speculation_of
from kvsim.plan.vllm import engine_keys
from kvsim.plan.vllm_defaults import checked_version, version_of
from kvsim.plan.weight_types import configured_type
from kvsim.policy.scheduling import ORDERS
from kvsim.spec import GpuSpec, InstanceSpec, ModelSpec, find_gpu, find_model
from kvsim.spec.adapters import Adapters, adapter_bytes
from kvsim.spec.memory import MemoryArguments
from kvsim.steptime import StepTime
from kvsim.units import GB, GIB, TERA

DEGREES = ("tensor_parallel_size", "data_parallel_size")
PIPELINE = "engine.pipeline_parallel_size"
Role = Literal["colocated", "prefill", "decode"]


@dataclass(frozen=True)
class Instance:
    """What the instances of one role run on."""

    spec: InstanceSpec
    settings: EngineSettings
    step_time: StepTime
    nic_bytes_per_s: float
    """The NICs of all its GPUs, as achieved."""
    nearest: NearestProfile | None = None
    """How its step times are known, where ``steptime.method`` is ``auto``."""

    @property
    def degree(self) -> int:
        """GPUs, over all stages."""
        return self.spec.num_gpus


def load_instance(
    model: str,
    arguments: Fields,
    *,
    vllm_version: str = "",
    longest_tokens: int | None = None,
    profile: Path | None = None,
    keys: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    instances: int | None = None,
    where: str = "engine arguments",
    gpu: GpuSpec | None = None,
) -> LoadedConfig:
    """The configuration of servers of ``model``, as vLLM's ``arguments`` tell them, on as many GPUs as they take.

    ``instances``: how many servers; ``None``: one, on GPUs that its prefills and decodes could be separated on as well.
    ``profile``: step times; ``keys``: further ones of kvsim's own, by name; ``sets``: assignments, which come last.
    ``vllm_version`` may be empty: a present one. ``longest_tokens`` as for ``engine_keys``. ``where``: who gives the
    arguments, for messages. ``gpu``: the one it runs on, whose defaults the server takes. Raises ``ConfigError``.
    """
    own = server_of(model, arguments, assigned_version(sets) or vllm_version, longest_tokens, gpu)
    own |= offloading_keys(arguments, own, "pd_separation.tiers") | dict(keys or {})
    given = set_values(sets)
    tensor, engines = (_count(given.get(key), own[key]) for key in (f"engine.{name}" for name in DEGREES))
    degree = tensor * _count(given.get(PIPELINE), own.get(PIPELINE, 1))
    engines = max(2, engines) if instances is None else engines * instances
    for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack"):
        own[f"cluster.{key}"] = degree * engines
    if instances is None and PIPELINE not in own:
        own["cluster.network.gpus_per_host"] = degree * engines
    own |= {"cluster.simulate_racks": 1, "pd_separation.pd_ratio": [1, max(engines - 1, 1)]}
    mode: Literal["instance", "predict"] = "instance" if instances is None else "predict"
    return load_config(overlay=profile, sets=sets, mode=mode, engine=Given(where, own))


def _count(given: object, otherwise: int) -> int:
    """What an assignment says, where it can be; what cannot is refused where keys are checked."""
    return given if isinstance(given, int) and given > 0 else otherwise


def assigned_version(sets: Sequence[str]) -> str:
    """The engine's version among assignments, on which defaults of its arguments depend; empty: none is."""
    key = "engine.vllm_version="
    found = [text.removeprefix(key).strip().strip("'\"") for text in sets if text.startswith(key)]
    return found[-1] if found and version_of(found[-1]) else ""


def server_of(
    model: str,
    arguments: Fields,
    vllm_version: str = "",
    longest_tokens: int | None = None,
    gpu: GpuSpec | None = None,
) -> dict[str, Any]:
    """Keys and values of one server: what its arguments leave open is as the model's checkpoint and vLLM have it.

    ``longest_tokens``: in place of what the model takes. ``gpu``: the one it runs on; ``None``: as configured, and the
    server's defaults are those of ``engine_keys``. Raises ``ConfigError``.
    """
    spec = find_model(model)
    longest = longest_tokens or spec.max_position_embeddings or None
    known = None if gpu is None else spec
    own = {"model.name": model, "model.weight_dtype": spec.weight_dtype}
    own |= engine_keys(arguments, vllm_version, longest, gpu=gpu, model=known)
    if spec.kv_dtype is not None and arguments.get("kv_cache_dtype") in (None, "auto"):
        own["model.kv_dtype"] = spec.kv_dtype
    own["model.weight_dtype"] = configured_type(arguments, spec, own["model.weight_dtype"])
    return own if gpu is None else own | {"hardware.gpu": gpu.name}


def instance_of(
    config: Config, role: Role = "colocated", *, stepwise: bool = False, like: Instance | None = None
) -> Instance:
    """The instances of ``role`` that ``config`` describes.

    ``like``: one of the same configuration, whose step times hold where degree and GPU are the same. Raises
    ``ConfigError`` where the configuration cannot be built, ``CapacityError`` where the model does not fit its GPUs.
    """
    ORDERS.check(config)
    config = of_role(config, role)
    spec = spec_of(config, role)
    if like is not None and like.degree == spec.num_gpus and like.spec.gpu == spec.gpu:
        spec, known = like.spec, KnownStepTime(like.step_time, like.nearest)
    else:
        _check_profile(config, role, spec)
        check_experts(config, spec)
        known = build_step_time(config, spec)
    nic_bytes_per_s = derived.nic_bytes_per_s_per_gpu(config) * spec.num_gpus
    settings = settings_of(config, spec, role, stepwise=stepwise)
    return Instance(spec, settings, known.step_time, nic_bytes_per_s, known.nearest)


def settings_of(config: Config, spec: InstanceSpec, role: Role, *, stepwise: bool = False) -> EngineSettings:
    """The engine's arguments in one role; of the pool's blocks one is vLLM's null block, which holds nothing."""
    engine, separation = config.engine, config.pd_separation
    groups = kv_groups_of(config, spec)
    num_blocks = spec.num_blocks  # Raises where there is room for none.
    if groups and spec.pipeline_layers:
        raise ConfigError(no_groups(config, spec))
    found = EngineSettings(
        num_blocks=(spec.pool_blocks if groups else num_blocks) - 1,
        block_size=spec.block_size_tokens,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        max_num_seqs=engine.max_num_seqs,
        max_model_len=config.model.max_model_len,
        enable_prefix_caching=engine.enable_prefix_caching,
        enable_chunked_prefill=engine.enable_chunked_prefill,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        watermark=watermark_of(engine.vllm_version, engine.watermark),
        scheduler_reserve_full_isl=reserves_whole(engine.vllm_version, engine.scheduler_reserve_full_isl),
        batching=engine.batching,
        async_scheduling=engine.async_scheduling,
        scheduling_policy=engine.scheduling_policy,
        prefix_cache=config.cache.prefix_cache,
        kv_groups=groups,
        stepwise=stepwise,
        speculation=speculation_of(config),
        max_loras=0 if groups or role == "decode" else max_loras_of(config),
        adapter_loads=None if groups or role == "decode" else adapter_loads_of(config, spec),
        rules=rules_of(engine.vllm_version),
        pipeline_parallel=spec.pipeline_parallel,
        sglang=sglang_settings(config, role),
    )
    if found.max_scheduled_tokens < 1 and role != "prefill":
        raise ConfigError(
            f"engine.max_num_batched_tokens = {engine.max_num_batched_tokens}: must be above engine.max_num_seqs = "
            f"{engine.max_num_seqs} with engine.speculative.method: draft_model before vLLM 0.28, which keeps a token "
            "of each step for every seat"
        )
    if role == "prefill":
        budget = derived.prefill_token_budget(config)
        is_chunked = separation.chunked_prefill
        # A prompt is all that it computes: nothing is drafted that anybody there would verify.
        return replace(found, max_num_batched_tokens=budget, enable_chunked_prefill=is_chunked, speculation=None)
    if role == "decode":
        return replace(found, output_margin_tokens=separation.output_margin_tokens, batching="continuous")
    return found


def _check_profile(config: Config, role: Role, spec: InstanceSpec) -> None:
    """A profile's times are of one degree, the colocated instances'."""
    own = config.engine.tensor_parallel_size
    if spec.tensor_parallel != own and config.steptime.method in ("fitted", "tables"):
        raise ConfigError(
            f"{_degree_key(role)} = {spec.tensor_parallel} beside engine.tensor_parallel_size = {own}: a profile's "
            "times are of one degree; give steptime.method 'auto'"
        )


def spec_of(config: Config, role: Role = "colocated") -> InstanceSpec:
    """The model on the GPUs of an instance, with what the configuration replaces of the known ones."""
    config = of_role(config, role)
    degrees = dict(zip(("prefill", "decode"), derived.pd_degrees(config), strict=True))
    own = config.engine.tensor_parallel_size
    degree = degrees.get(role, own)
    others_gb = config.engine.non_kv_gb_per_gpu
    model = _model_of(config)
    return InstanceSpec(
        model=model,
        gpu=_gpu_of(config),
        tensor_parallel=degree,
        weight_dtype=config.model.weight_dtype,
        kv_dtype=config.model.kv_dtype,
        block_size_tokens=derived.block_size(config),
        memory_utilisation=config.engine.gpu_memory_utilization,
        non_kv_bytes_per_gpu=None if others_gb is None else others_gb * GB,
        arguments=_memory_arguments(config, role),
        kv_bytes_per_token_override=derived.kv_bytes_per_token_override(config),
        kv_capacity_bytes_per_gpu=derived.kv_capacity_bytes_per_gpu_override(config),
        num_blocks_override=config.engine.num_gpu_blocks_override,
        is_hybrid=is_hybrid(config, _model_of(config)),
        tensor_parallel_key="engine.tensor_parallel_size" if degree == own else _degree_key(role),
        block_size_key=derived.block_size_key(config),
        kv_size_key=derived.kv_size_key(config),
        kv_capacity_key=derived.kv_capacity_key(config),
        expert_parallel=derived.expert_parallel(config, model.is_moe, degree),
        slices_experts=not config.engine.enable_expert_parallel,
        redundant_experts=config.engine.num_redundant_experts if model.is_moe else 0,
        drafter=drafter_of(config, model, degree),
        adapters=_adapters_of(config, model),
        pipeline_layers=pipeline_layers_of(config, model),
    )


def max_loras_of(config: Config) -> int:
    """Adapters in one step at most, where that keeps any request waiting; 0: it does not, or is not simulated."""
    used, slots = derived.lora_adapters(config) or 0, config.engine.max_loras
    return slots if used > slots and config.engine.speculative.method is None else 0


def adapter_loads_of(config: Config, spec: InstanceSpec) -> AdapterLoads | None:
    """What loads of adapters take, where there are more than slots. Each GPU gets its part over a link of its own; the
    file is read once, whole."""
    engine, slots = config.engine, max_loras_of(config)
    if not slots or spec.adapters is None or not engine.lora_loading:
        return None
    part_bytes = adapter_bytes(spec.model, spec.tensor_parallel, spec.expert_parallel, engine.max_lora_rank)
    file_bytes = adapter_bytes(spec.model, 1, 1, engine.max_lora_rank)
    return AdapterLoads(
        max_loras=slots,
        max_cpu_loras=engine.max_cpu_loras or slots,
        host_s=part_bytes / (config.hardware.dram.read_gb_per_s * GB),
        disk_s=file_bytes / (engine.lora_disk_gb_per_s * GB),
        used=derived.lora_adapters(config) or 0,
    )


def _adapters_of(config: Config, model: ModelSpec) -> Adapters | None:
    engine = config.engine
    if not engine.enable_lora:
        return None
    if model.is_mla:
        raise ConfigError(f"engine.enable_lora: adapters of {model.name}, which has latent attention, are not modelled")
    if config.steptime.method == "tables":
        raise ConfigError("engine.enable_lora: beside steptime.method 'tables' adapters are not modelled; 'fitted' is")
    return Adapters(engine.max_loras, engine.max_lora_rank, derived.lora_adapters(config) or 1)


def _memory_arguments(config: Config, role: Role) -> MemoryArguments:
    engine = config.engine
    version = version_of(checked_version(engine.vllm_version, "engine.vllm_version"))
    budget_tokens = derived.prefill_token_budget(config) if role == "prefill" else engine.max_num_batched_tokens
    return MemoryArguments(
        max_num_batched_tokens=budget_tokens,
        max_num_seqs=engine.max_num_seqs,
        max_model_len=config.model.max_model_len,
        enforce_eager=engine.enforce_eager,
        async_scheduling=engine.async_scheduling,
        vllm_version=version,
    )


def _degree_key(role: Role) -> str:
    return f"pd_separation.{role}_tensor_parallel_size"


def _model_of(config: Config) -> ModelSpec:
    model = find_model(config.model.name)
    params_billions = derived.params_billions(config)
    if params_billions is None:
        return model
    if params_billions * 1e9 <= model.expert_params:
        raise ConfigError(
            f"model.params_billions = {params_billions:g}: must be above the {model.expert_params / 1e9:.2f} that "
            f"the routed experts of {model.name} have"
        )
    return replace(model, params=params_billions * 1e9)


def _gpu_of(config: Config) -> GpuSpec:
    gpu, hardware = find_gpu(config.hardware.gpu), config.hardware
    if hardware.memory_gib is not None:
        given_bytes = hardware.memory_gib * GIB
        gpu = replace(gpu, memory_bytes=given_bytes, usable_memory_bytes=given_bytes)
    hbm_bytes_per_s = derived.hbm_read_bytes_per_s_override(config)
    if hbm_bytes_per_s is not None:
        gpu = replace(gpu, hbm_bytes_per_s=hbm_bytes_per_s)
    if hardware.peak_tflops is not None:
        peak_flops = hardware.peak_tflops * TERA
        gpu = gpu.with_peak(peak_flops)
    return gpu
