"""The tiers of a cluster below its GPUs: which stand where, and who reaches them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.plan.cells import check_hosts
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Place, Plan
from kvsim.policy.admission import Admission, AdmissionSettings, make_admission
from kvsim.policy.eviction import Access, Eviction, make_eviction
from kvsim.sim.clock import Clock
from kvsim.sim.log.detail import Rows
from kvsim.sim.routing import RoutingTierView
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.connector import KvConnector, Rules, TierTraffic, TierView
from kvsim.sim.tiers.lru_tier import LruTier
from kvsim.sim.tiers.offload_tier import OffloadTier
from kvsim.sim.tiers.policy_tier import PolicyTier
from kvsim.sim.tiers.ports import Route
from kvsim.sim.tiers.tier import Tier
from kvsim.sim.tiers.tier_routes import TierRoutes
from kvsim.sim.tiers.transfers import Transfers
from kvsim.sim.tiers.writes import Writes
from kvsim.spec.tier_kinds import DRAM, EIC, SSD, TIERS, TierKind
from kvsim.units import GB
from kvsim.workload.workload import Workload


class TierHierarchy:
    """All tiers, their ports, and a connector for each instance whose prompts they serve."""

    def __init__(
        self,
        clock: Clock,
        plan: Plan,
        side: Instance,
        names: Sequence[str],
        places: Sequence[Place],
        next_use: Callable[[int, int], int] | None = None,
        seed: int = 0,
        loads: Rows | None = None,
    ) -> None:
        """``side``: what those instances are. ``places``: of them, by number. ``loads``: told of every load.

        Raises ``ConfigError`` for tiers that hold not even a chunk, and for hosts that do not stand in one rack.
        """
        _check_places(plan, names)
        self._plan, self._next_use, self._seed = plan, next_use, seed
        self.names = tuple(names)
        self.rules = rules_of(plan)
        self.traffic = TierTraffic()
        self.directory = ChunkDirectory()
        self._clock = clock
        causes_more = self.rules.offloads or (len(self.names) > 1 and not self.rules.writes_through)
        self._writes = Writes(clock if causes_more else None)
        self.stray = Access()
        """Access of chunks that an engine evicts: nothing is known of who asked for them."""
        self.restarts = 0
        self.tiers: dict[str, list[Tier]] = {name: [] for name in names}
        self._built: dict[tuple[str, int], Tier] = {}
        self._numbered: list[Tier] = []
        """Tiers by the numbers that the directory knows them by."""
        self._routes = TierRoutes(plan, side, places, seed)
        self.ports = self._routes.ports
        self._hosts = 1 + max(place.host for place in places)
        transfers = Transfers(clock, shares=plan.config.cache.contention == "max_min")
        self.connectors = [
            KvConnector(
                clock,
                [self._view(name, place, i) for name in names],
                self.rules,
                self.traffic,
                transfers,
                self._writes,
                loads,
                i,
            )
            for i, place in enumerate(places)
        ]

    def holders(self, chain: int) -> list[Tier]:
        """The tiers that have any chunk of a chain."""
        return [self._numbered[number] for number in self.directory.holders(chain)]

    def tier_view(self, compute_s_per_token: float) -> RoutingTierView:
        """What routers see: which tiers each instance reaches, how much of computing a token loading it from there
        saves, and how long that would have to wait now.
        """
        rules = self.rules
        token_bytes = rules.chunk_bytes / rules.chunk_tokens
        reach = [
            [
                (view.tier.number, max(0.0, 1 - token_bytes / _slowest(view.routes.farthest()) / compute_s_per_token))
                for view in connector.views
            ]
            for connector in self.connectors
        ]
        block_size = self._plan.spec.block_size_tokens
        chunk_blocks, block_s = rules.chunk_tokens // block_size, compute_s_per_token * block_size
        return RoutingTierView(self.directory.holders, reach, self.connectors, chunk_blocks, block_s)

    def settle(self) -> None:
        """Let everything be where it is by now."""
        self._writes.settle(self._clock.now)

    def restart(self) -> None:
        """Lose what is in memory, and what is being written; what stands on drives stays."""
        self.restarts += 1
        self.settle()
        for write in self._writes.lose_all():
            for chain, _, end in write.runs:
                self.directory.lost(chain, end)
        for kind in TIERS:
            if kind.is_volatile:
                for tier in self.tiers.get(kind.name, ()):
                    tier.lose_all()

    def has(self, name: str, group: int) -> bool:
        """Whether there is such a tier; see ``lose``."""
        return (name, group) in self._built

    def lose(self, name: str, group: int) -> bool:
        """Lose what one tier has and what is being written to it, and let nothing in until it is ``back``. ``group``:
        the host, rack or instance that it is of. Returns whether there is such a tier.
        """
        tier = self._built.get((name, group))
        if tier is None:
            return False
        self.settle()
        for write in self._writes.lose(lambda write: write.receiver.tier_of(write.tier_number) is tier):
            for chain, _, end in write.runs:
                self.directory.lost(chain, end)
        tier.lose_all()
        tier.is_off = True
        return True

    def back(self, name: str, group: int) -> None:
        """A tier that was lost is there again, empty."""
        self._built[name, group].is_off = False

    def backup_s_per_token(self, instance: int) -> float:
        """Seconds that copying a token's KV to the first tier takes when nobody else is there."""
        rules, route = self.rules, self.connectors[instance].views[0].routes.write(0)
        return rules.chunk_bytes / rules.chunk_tokens / _slowest(route)

    def check_integrity(self) -> None:
        """Assert that every tier's books balance."""
        for tiers in self.tiers.values():
            for tier in tiers:
                tier.check_integrity()

    def _view(self, name: str, place: Place, instance: int) -> TierView:
        made: dict[str, Callable[[Place, int], TierView]] = {
            DRAM.name: self._dram,
            EIC.name: self._eic,
            SSD.name: self._ssd,
        }
        return made[name](place, instance)

    def _dram(self, place: Place, instance: int) -> TierView:
        """The host's memory, or an instance's own part of it, as that instance sees it."""
        dram = self._plan.config.hardware.dram
        group = place.host if dram.scope == "host" else instance
        tier = self._tier(DRAM, group, dram.capacity_gb * GB)
        return TierView(tier, self._routes.dram(place, instance))

    def _eic(self, place: Place, instance: int) -> TierView:
        """The rack's pool, as an instance sees it."""
        eic = self._plan.config.cluster.eic
        capacity_bytes = eic.nodes_per_rack * eic.capacity_per_node_gb * GB
        tier = self._tier(EIC, place.rack, capacity_bytes)
        return TierView(tier, self._routes.eic(place, instance))

    def _ssd(self, place: Place, instance: int) -> TierView:
        """Drives as an instance sees them: the host's own, or those of all hosts of the rack or the cluster."""
        scope, ssd = self._plan.config.cluster.ssd_scope, self._plan.config.hardware.ssd
        own_hosts = {"host": range(place.host, place.host + 1), "cluster": range(self._hosts)}
        hosts = own_hosts.get(scope) or self._routes.hosts_of(place.rack)
        group = {"host": place.host, "rack": place.rack, "cluster": 0}[scope]
        tier = self._tier(SSD, group, ssd.capacity_gb * GB * len(hosts))
        return TierView(tier, self._routes.ssd(place, instance, hosts))

    def _tier(self, kind: TierKind, group: int, capacity_bytes: float) -> Tier:
        built = self._built.get((kind.name, group))
        if built is not None:
            return built
        chunks = int(capacity_bytes // self.rules.chunk_bytes)
        if not chunks:
            raise ConfigError(
                f"{kind.capacity_key}: {capacity_bytes / GB:g} GB hold no chunk of {self.rules.chunk_tokens} tokens, "
                f"which takes {self.rules.chunk_bytes / GB:.3g} GB"
            )
        tier = self._built[kind.name, group] = self._made(kind, chunks)
        self.tiers[kind.name].append(tier)
        self._numbered.append(tier)
        return tier

    def _made(self, kind: TierKind, chunks: int) -> Tier:
        config, number = self._plan.config, len(self._numbered)
        admission = admission_of(config, chunks)
        if admission is None and config.policies.eviction == "lru":
            if self.rules.offloads and kind is DRAM:
                return OffloadTier(kind.name, chunks, number, self.directory)
            return LruTier(kind.name, chunks, number, self.directory)
        return PolicyTier(
            kind.name,
            eviction_of(config, chunks, self._seed + number),
            number,
            self.directory,
            admission=admission,
            next_use=self._next_use,
            is_volatile=bool(config.fleet.events)
            or (kind.is_volatile and config.cache.restart_after_requests is not None),
        )


def _slowest(route: Route) -> float:
    """Bytes per second of a transfer that has its route to itself."""
    return min(channel.bytes_per_s for channel in route)


def _check_places(plan: Plan, names: Sequence[str]) -> None:
    if not plan.config.engine.enable_prefix_caching:
        raise ConfigError(
            f"tiers ({', '.join(names)}) need engine.enable_prefix_caching = true: what they have is loaded into an "
            "instance's prefix cache"
        )
    check_hosts(plan)


def rules_of(plan: Plan) -> Rules:
    cache, spec = plan.config.cache, plan.prefill.spec
    return Rules(
        chunk_tokens=cache.chunk_tokens,
        chunk_bytes=cache.chunk_tokens * spec.kv_bytes_per_token,
        writes_through=cache.write_policy == "write_through",
        writes_generated=cache.write_generated,
        inclusive=cache.inclusive,
        promotes=cache.promote_on_hit,
        recomputes=cache.load_or_recompute,
        offloads=cache.connector == "offloading",
        loads_on_arrival=cache.load_at == "arrival",
        most_write_wait_s=cache.max_write_wait_s,
    )


def eviction_of(config: Config, capacity_chunks: int, seed: int) -> Eviction:
    """The configured eviction policy. Raises ``ConfigError`` for one nobody knows, and for a model of no use."""
    if config.policies.eviction == "learned":
        from kvsim.policy.eviction.learned import Learned

        # Under write-back a tier is asked for what engines evict, and an exclusive one loses what is asked for.
        recalibrates = config.cache.write_policy == "write_through" and config.cache.inclusive
        return Learned.from_file(capacity_chunks, config.policies.learned_model, seed, recalibrates)
    return make_eviction(config.policies.eviction, capacity_chunks, seed)


def admission_of(config: Config, capacity_chunks: int) -> Admission | None:
    """The configured admission policy; ``None``: everything is let in. Raises ``ConfigError`` for one nobody knows."""
    policies = config.policies
    name = "selective_write" if policies.selective_write else policies.admission
    if name == "all":
        return None
    settings = AdmissionSettings(capacity_chunks, policies.selective_write_depth_threshold, policies.ttl_s)
    return make_admission(name, settings)


def next_uses(workload: Workload, block_size: int, chunk_blocks: int) -> Callable[[int, int], int]:
    """``next_use(key, index)`` for policies that know the future: the next request behind ``index`` that asks for a
    chunk.
    """
    from bisect import bisect_right

    from kvsim.policy.eviction import NEVER
    from kvsim.sim.engine.sequence import block_path
    from kvsim.sim.tiers.chunks import chunk_keys, chunk_runs

    uses: dict[int, list[int]] = {}
    for request in workload:
        limit = (request.prompt_tokens - 1) // block_size
        runs = chunk_runs(block_path(request, block_size), limit, chunk_blocks)
        for key in chunk_keys(run for run in runs if run[0] >= 0):
            uses.setdefault(key, []).append(request.request_id)

    def next_use(key: int, index: int) -> int:
        found = uses.get(key)
        if found is None:
            return NEVER
        place = bisect_right(found, index)
        return found[place] if place < len(found) else NEVER

    return next_use
