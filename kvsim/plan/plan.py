"""A cluster of instances: how many in which role, and where each stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kvsim import room
from kvsim.config import Config, derived
from kvsim.config.autoscale_keys import OFF
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance, Role, instance_of
from kvsim.plan.pipeline import check_alone
from kvsim.spec import InstanceSpec
from kvsim.steptime import StepTime
from kvsim.steptime.curves.speculative import SpeculativeStepTime

ROLES: tuple[Role, ...] = ("colocated", "prefill", "decode")
INSTANCE_BYTES, TIERED_INSTANCE_BYTES = 15_000, 22_000
"""Memory of an instance that has served a request, without and with tiers below it; without the blocks it holds."""


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
    colocated: Instance
    """An instance of the unified system."""
    prefill: Instance
    decode: Instance
    num_instances: int
    """Instances of the unified system."""
    num_prefill: int
    num_decode: int
    """0, as ``num_prefill``, where nobody separates the two."""
    kv_bytes_per_token: float
    """Bytes on the wire to a decode instance: after compression, each copy of a KV head once."""
    tiers: tuple[str, ...] = ()
    """Below the caches of the instances that compute prompts, the nearest first."""

    @property
    def spec(self) -> InstanceSpec:
        """What instances of the unified system are, as ``step_time`` and ``colocated_settings`` are of them."""
        return self.colocated.spec

    @property
    def step_time(self) -> StepTime:
        return self.colocated.step_time

    @property
    def colocated_settings(self) -> EngineSettings:
        return self.colocated.settings

    @property
    def prefill_settings(self) -> EngineSettings:
        return self.prefill.settings

    @property
    def decode_settings(self) -> EngineSettings:
        return self.decode.settings

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
        return self.num_instances * self.spec.num_gpus

    @property
    def engines_in_step(self) -> int:
        """Data-parallel engines that share experts and take their steps together; 1: each takes its own."""
        return self.spec.engines_sharing_experts

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
        config, degree = self.config.cluster, self.spec.num_gpus
        per_host, per_rack = config.network.gpus_per_host, config.simulate_gpus_per_rack
        firsts = [instance * degree for instance in range(self.num_instances)]
        return [Place(False, gpu // per_host, gpu // per_rack) for gpu in firsts]

    def interleaved_roles(self) -> list[bool]:
        """For each place, whether a prefill instance stands there: the roles spread evenly."""
        total, prefill = self.num_prefill + self.num_decode, self.num_prefill
        return [(place + 1) * prefill // total > place * prefill // total for place in range(total)]

    def with_counts(self, num_prefill: int, num_decode: int) -> Plan:
        return replace(self, num_prefill=num_prefill, num_decode=num_decode)

    def at_ratio(self, counts: tuple[int, int]) -> Plan:
        """A plan with prefill and decode instances at that ratio, as its configuration then says, too."""
        separation = self.config.pd_separation.model_copy(update={"pd_ratio": counts})
        config = self.config.model_copy(update={"pd_separation": separation})
        return replace(self, config=config).with_counts(*derived.pd_counts(config))

    def sized(self, num_instances: int, num_prefill: int) -> Plan:
        """A cluster of the GPUs of that many unified instances, with so many prefill instances."""
        sized = replace(self, num_instances=num_instances, num_prefill=num_prefill)
        return replace(sized, num_decode=sized.decode_beside(num_prefill))

    def scaled_to(self, num_instances: int) -> Plan:
        """A cluster of fewer instances with the same ratio of roles, as near as whole instances come, or whole groups
        of those that step together.
        """
        size = self.engines_in_step
        if size > 1:
            num_instances = min(-(-num_instances // size) * size, self.num_instances)
        if not self.num_decode:
            return replace(self, num_instances=num_instances)
        scaled = replace(self, num_instances=max(num_instances, -(-sum(self.degrees) // self.spec.num_gpus)))
        num_prefill = round(scaled.num_instances * self.num_prefill / self.num_instances)
        if size > 1:
            num_prefill = max(round(num_prefill / size), 1) * size
        return scaled.sized(scaled.num_instances, min(max(num_prefill, 1), scaled.most_prefill))

    def undisturbed(self) -> Plan:
        """A plan of this cluster in which nothing fails, all its instances serve, it never loses its memory and clients
        wait for ever: short runs ask what it is like in between.
        """
        config, calm = self.config, self.config
        if config.cache.restart_after_requests is not None:
            calm = calm.model_copy(update={"cache": calm.cache.model_copy(update={"restart_after_requests": None})})
        if config.fleet.events:
            calm = calm.model_copy(update={"fleet": calm.fleet.model_copy(update={"events": ()})})
        if config.autoscale.is_on:
            off = config.autoscale.model_copy(update={"policy": OFF, "roles": ()})
            calm = calm.model_copy(update={"autoscale": off})
        if config.clients.timeout_s is not None or config.clients.retries:
            clients = calm.clients.model_copy(update={"timeout_s": None, "retries": 0})
            calm = calm.model_copy(update={"clients": clients})
        return self if calm is config else replace(self, config=calm)

    def with_colocated_budget(self, tokens: int) -> Plan:
        """A plan with another token budget for the unified baseline; never more seats than tokens."""
        seats = min(self.colocated_settings.max_num_seqs, tokens)
        return self.with_settings("colocated", max_num_batched_tokens=tokens, max_num_seqs=seats)

    def with_settings(self, *roles: Role, **changes: Any) -> Plan:
        """A plan with other arguments of the engines of these roles."""
        found = {role: getattr(self, role) for role in roles}
        changed = {role: replace(own, settings=replace(own.settings, **changes)) for role, own in found.items()}
        return replace(self, **changed)

    def drafting_with(self, seed: int) -> Plan:
        """A plan whose acceptances of drafts, where there are any, are drawn from that seed."""
        speculation = self.colocated_settings.speculation
        if speculation is None:
            return self
        return self.with_settings("colocated", "decode", speculation=replace(speculation, seed=seed))

    def without_groups(self) -> Plan:
        """A plan whose engines keep every token in all layers, in as many blocks as vLLM's requests of the longest
        length would have."""
        found = self
        for role in ROLES:
            own: Instance = getattr(self, role)
            if own.settings.kv_groups:
                found = found.with_settings(role, kv_groups=(), num_blocks=own.spec.num_blocks - 1)
        return found

    def with_instances(self, **changes: Any) -> Plan:
        """A plan with another ``step_time``, ``spec`` or ``nic_bytes_per_s`` of the instances of every role. Where
        tokens are drafted, ``step_time`` is of the model alone, and its drafter is as before.
        """
        own, other = self.step_time, changes.get("step_time")
        if isinstance(own, SpeculativeStepTime) and not isinstance(other, SpeculativeStepTime | None):
            changes["step_time"] = SpeculativeStepTime(other, own.drafter, own.num_tokens, other.coefficients)
        return replace(self, **{role: replace(getattr(self, role), **changes) for role in ROLES})


def make_plan(config: Config, *, stepwise: bool = False) -> Plan:
    """A cluster for either system. Raises ``ConfigError`` or ``CapacityError`` where it cannot be built."""
    check_alone(config, "prefill/decode separation")
    num_instances = derived.instances(config)
    check_instances(num_instances, "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
    num_prefill, num_decode = derived.pd_counts(config)
    colocated = instance_of(config, stepwise=stepwise)
    decode = instance_of(config, "decode", stepwise=stepwise, like=colocated)
    plan = Plan(
        config=config,
        colocated=colocated,
        prefill=instance_of(config, "prefill", stepwise=stepwise, like=colocated),
        decode=decode,
        num_instances=num_instances,
        num_prefill=num_prefill,
        num_decode=num_decode,
        kv_bytes_per_token=decode.spec.kv_bytes_per_token / config.pd_separation.transfer.compression_ratio,
        tiers=config.pd_separation.tiers,
    )
    return plan.without_groups() if plan.tiers else plan


def unified_plan(config: Config, num_instances: int, tiers: tuple[str, ...] = (), *, stepwise: bool = False) -> Plan:
    """A cluster of so many instances that do both, and nobody who does one alone; raises as ``make_plan`` does."""
    if tiers:
        check_alone(config, "tiers")
    own = instance_of(config, stepwise=stepwise)
    plan = Plan(config, own, own, own, num_instances, 0, 0, own.spec.kv_bytes_per_token, tiers)
    return plan.without_groups() if tiers else plan


def check_instances(instances: int, keys: str) -> None:
    """Raise ``CapacityError`` where so many would not fit this machine's memory; ``keys`` say how many there are."""
    fits = f"up to about {room.about(room.most(INSTANCE_BYTES))} would fit; see {keys}"
    room.require(instances * INSTANCE_BYTES, f"{instances:,} instances", fits)


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
