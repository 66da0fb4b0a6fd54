"""A cluster of instances: how many in which role, and where each stands."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvsim import room
from kvsim.config import Config, derived
from kvsim.config.autoscale_keys import OFF
from kvsim.errors import ConfigError
from kvsim.plan.cells import cell_config, check_cells
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance, Role, instance_of
from kvsim.plan.pipeline import check_alone
from kvsim.plan.pools import Pool, pools_of, scaled
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
    cells: int = 1
    """Equal parts that share nothing: a request is dealt to one of them, and its routers see that one alone."""
    pools: tuple[Pool, ...] = ()
    """The instances of the unified system by kind, of which ``colocated`` is the first; none: all are alike."""

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
        return sum(pool.gpus for pool in self.pools) if self.pools else self.num_instances * self.spec.num_gpus

    def by_kind(self) -> list[Plan]:
        """A plan for each kind of unified instances, with those alone; this one where all are alike."""
        if not self.pools:
            return [self]
        return [replace(self, colocated=pool.instance, num_instances=pool.instances, pools=()) for pool in self.pools]

    @property
    def engines_in_step(self) -> int:
        """Data-parallel engines that share experts and take their steps together; 1: each takes its own."""
        return self.spec.engines_sharing_experts

    @property
    def num_racks(self) -> int:
        """Hosts of one kind of GPUs may be partly empty, and take more racks than their GPUs would fill."""
        if self.num_prefill and self.has_kinds:
            return max(place.rack for place in self.places()) + 1
        return -(-self.num_gpus // self.config.cluster.simulate_gpus_per_rack)

    @property
    def most_prefill(self) -> int:
        """Prefill instances that leave room for a decode instance in every cell."""
        prefill, decode = self.degrees
        return self.cells * ((self.num_gpus // self.cells - decode) // prefill)

    def decode_beside(self, num_prefill: int) -> int:
        """Decode instances on the GPUs that so many prefill instances leave."""
        return derived.decode_beside(num_prefill, self.num_gpus, self.degrees, self.cells)

    def cell(self, number: int) -> Plan:
        """One of ``cells``, as a cluster of its own."""
        num_instances = self.num_instances // self.cells
        config = cell_config(self.config, number)
        own = replace(self, config=config, cells=1, num_instances=num_instances)
        if not self.num_decode:
            return own
        num_prefill = derived.spread(self.num_prefill, self.cells)[number]
        return own.with_counts(num_prefill, own.decode_beside(num_prefill))

    @property
    def one_cell(self) -> Plan:
        """What a request may see of the cluster: the whole, where it has no cells."""
        return self if self.cells == 1 else self.cell(0)

    def cell_kinds(self) -> list[Plan]:
        """A cell of each number of prefill instances."""
        counts = derived.spread(self.num_prefill, self.cells)
        return [self.cell(counts.index(count)) for count in sorted(set(counts))]

    @property
    def has_kinds(self) -> bool:
        """Whether prefill and decode instances have GPUs of two kinds, and hosts of their own."""
        return self.prefill.spec.gpu != self.decode.spec.gpu

    def places(self) -> list[Place]:
        """Where the PD system's instances stand: roles spread evenly over racks, nobody across the edge of a host, and
        the GPUs of a host all of one kind."""
        prefill, decode = self.degrees
        config, roles = self.config.cluster, self.interleaved_roles()
        per_host, per_rack = config.network.gpus_per_host, config.simulate_gpus_per_rack
        if self.cells > 1:
            gpus = self.num_gpus // self.cells
            return [
                Place(place.is_prefill, place.host + first // per_host, place.rack + first // per_rack)
                for number in range(self.cells)
                for first in (number * gpus,)
                for place in self.cell(number).places()
            ]
        if prefill == decode and not self.has_kinds:
            first_gpus = [place * prefill for place in range(len(roles))]
        else:
            degrees = [prefill if role else decode for role in roles]
            first_gpus = first_fit(degrees, per_host, roles if self.has_kinds else None)
        return [Place(role, gpu // per_host, gpu // per_rack) for role, gpu in zip(roles, first_gpus, strict=True)]

    def unified_places(self) -> list[Place]:
        """Where the unified system's instances stand, one after the other; those of each kind on hosts of its own."""
        config = self.config.cluster
        per_host, per_rack = config.network.gpus_per_host, config.simulate_gpus_per_rack
        firsts: list[int] = []
        begin = 0
        for plan in self.by_kind():
            degree = plan.spec.num_gpus
            firsts += [begin + instance * degree for instance in range(plan.num_instances)]
            begin += -(-plan.num_instances * degree // per_host) * per_host
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
        """A cluster of the GPUs of that many unified instances, with so many prefill instances; of cells of the same
        size, or of one where they would not be whole."""
        whole = num_instances * self.cells % self.num_instances == 0
        cells = num_instances * self.cells // self.num_instances if whole else 1
        sized = replace(self.of_instances(num_instances), num_prefill=num_prefill, cells=cells)
        return replace(sized, num_decode=sized.decode_beside(num_prefill))

    def scaled_to(self, num_instances: int) -> Plan:
        """A cluster of fewer instances with the same ratio of roles, as near as whole instances come, or whole groups
        of those that step together, or whole cells.
        """
        if self.cells > 1:
            return self._of_cells(num_instances)
        size = self.engines_in_step
        if size > 1:
            num_instances = min(-(-num_instances // size) * size, self.num_instances)
        if not self.num_decode:
            return self.of_instances(num_instances)
        found = self.of_instances(max(num_instances, -(-sum(self.degrees) // self.spec.num_gpus)))
        num_prefill = round(found.num_instances * self.num_prefill / self.num_instances)
        if size > 1:
            num_prefill = max(round(num_prefill / size), 1) * size
        return found.sized(found.num_instances, min(max(num_prefill, 1), found.most_prefill))

    def of_instances(self, num_instances: int) -> Plan:
        """A plan of so many unified instances, or a few more where there is to be one of each kind."""
        if not self.pools or num_instances == self.num_instances:
            return replace(self, num_instances=num_instances)
        pools = scaled(self.pools, num_instances)
        return replace(self, pools=pools, num_instances=sum(pool.instances for pool in pools))

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

    def without_events(self, numbers: Container[int]) -> Plan:
        """A plan of this cluster without some of ``fleet.events``."""
        fleet = self.config.fleet
        left = tuple(event for number, event in enumerate(fleet.events) if number not in numbers)
        changed = {"fleet": fleet.model_copy(update={"events": left})}
        return replace(self, config=self.config.model_copy(update=changed))

    def _of_cells(self, num_instances: int) -> Plan:
        """As ``scaled_to``: fewer cells, or a part of one."""
        own = self.num_instances // self.cells
        cells = num_instances // own
        if not cells:
            return self.cell(0).scaled_to(num_instances)
        counts = derived.spread(self.num_prefill, self.cells)
        return self.sized(cells * own, sum(counts[:cells]))

    @property
    def unified_budget(self) -> int:
        """Token budget of the unified instances that have no budget of their own, or of the first."""
        own = next((pool.instance for pool in self.pools if not pool.keeps_budget), self.colocated)
        return own.settings.max_num_batched_tokens

    def with_colocated_budget(self, tokens: int) -> Plan:
        """A plan with another token budget for the unified baseline; never more seats than tokens."""

        def change(instance: Instance) -> Instance:
            settings = instance.settings
            seats = min(settings.max_num_seqs, tokens)
            return replace(instance, settings=replace(settings, max_num_batched_tokens=tokens, max_num_seqs=seats))

        return self._with_unified(change, lambda pool: not pool.keeps_budget)

    def _with_unified(self, change: Callable[[Instance], Instance], affects: Callable[[Pool], bool]) -> Plan:
        """A plan with other unified instances, of the pools that ``affects`` names where there are pools."""
        if not self.pools:
            return replace(self, colocated=change(self.colocated))
        pools = tuple(pool.changed(change) if affects(pool) else pool for pool in self.pools)
        return replace(self, colocated=pools[0].instance, pools=pools)

    def with_settings(self, *roles: Role, **changes: Any) -> Plan:
        """A plan with other arguments of the engines of these roles."""

        def change(instance: Instance) -> Instance:
            return replace(instance, settings=replace(instance.settings, **changes))

        return self.with_each(change, roles)

    def with_each(self, change: Callable[[Instance], Instance], roles: Sequence[Role] = ROLES) -> Plan:
        """A plan with what ``change`` makes of the instances of these roles, of every pool."""
        found = self._with_unified(change, lambda _: True) if "colocated" in roles else self
        others: dict[str, Any] = {role: change(getattr(self, role)) for role in roles if role != "colocated"}
        return replace(found, **others)

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
        return self.with_each(lambda instance: replace(instance, **changes))


def make_plan(config: Config, *, stepwise: bool = False) -> Plan:
    """A cluster for either system. Raises ``ConfigError`` or ``CapacityError`` where it cannot be built."""
    check_alone(config, "prefill/decode separation")
    num_instances = derived.instances(config)
    check_instances(num_instances, "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
    num_prefill, num_decode = derived.pd_counts(config)
    pools = pools_of(config, stepwise=stepwise)
    colocated = pools[0].instance if pools else instance_of(config, stepwise=stepwise)
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
        cells=derived.num_cells(config, num_instances * colocated.spec.num_gpus),
    )
    check_cells(plan)
    return _pooled(plan.without_groups() if plan.tiers else plan, pools)


def unified_plan(
    config: Config, num_instances: int, tiers: tuple[str, ...] = (), *, stepwise: bool = False, is_pooled: bool = False
) -> Plan:
    """A cluster of so many instances that do both, and nobody who does one alone; raises as ``make_plan`` does.

    ``is_pooled``: it is those of ``cluster.pools`` instead, where there are any.
    """
    if tiers:
        check_alone(config, "tiers")
    pools = pools_of(config, stepwise=stepwise) if is_pooled else ()
    own = pools[0].instance if pools else instance_of(config, stepwise=stepwise)
    cells = derived.num_cells(config, num_instances * own.spec.num_gpus)
    plan = Plan(config, own, own, own, num_instances, 0, 0, own.spec.kv_bytes_per_token, tiers, cells)
    check_cells(plan)
    return _pooled(plan.without_groups() if tiers else plan, pools)


def _pooled(plan: Plan, pools: tuple[Pool, ...]) -> Plan:
    """With as many unified instances as there are in ``pools``; one pool alone is a cluster of one kind."""
    if not pools:
        return plan
    if plan.cells > 1:
        raise ConfigError("routing.cells and cluster.pools: cells are alike, and pools are not; give one of them")
    instances = sum(pool.instances for pool in pools)
    check_instances(instances, "cluster.pools")
    return replace(plan, num_instances=instances, pools=pools if len(pools) > 1 else ())


def check_instances(instances: int, keys: str) -> None:
    """Raise ``CapacityError`` where so many would not fit this machine's memory; ``keys`` say how many there are."""
    fits = f"up to about {room.about(room.most(INSTANCE_BYTES))} would fit; see {keys}"
    room.require(instances * INSTANCE_BYTES, f"{instances:,} instances", fits)


def first_fit(degrees: list[int], gpus_per_host: int, kinds: Sequence[bool] | None = None) -> list[int]:
    """The first GPU of each instance: the first host with room, or as many whole new hosts as it takes.

    ``kinds``: those that differ share no host; ``None``: all are alike.
    """
    found: list[int] = []
    begun: list[tuple[bool, list[int]]] = []
    """Hosts with room: their kind, and their next GPU and how many are left."""
    end = 0
    for degree, kind in zip(degrees, kinds or [False] * len(degrees), strict=True):
        host = next((host for own, host in begun if own == kind and host[1] >= degree), None)
        if host is None:
            host = [end, -(-degree // gpus_per_host) * gpus_per_host]
            end += host[1]
            begun.append((kind, host))
        found.append(host[0])
        host[0] += degree
        host[1] -= degree
        if not host[1]:
            begun.remove((kind, host))
    return found
