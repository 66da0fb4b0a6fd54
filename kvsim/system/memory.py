"""The memories of a cluster below its GPUs: which tiers stand where, who reaches them, and over which ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvsim.cache.tier import Tier
from kvsim.clock import Clock
from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.fabric.port import Lane, Port, Way
from kvsim.node.backing import Backing, Level, Movements, Rules
from kvsim.policy.admission import Admission, AdmissionSettings, make_admission
from kvsim.policy.eviction import Access, Eviction, make_eviction
from kvsim.system.plan import Place, Plan
from kvsim.units import GB, MICRO, MILLI
from kvsim.workload.workload import Workload

VOLATILE = ("dram", "eic")
"""Tiers that a restart empties."""


class Memories:
    """All tiers, their ports, and the backing of each instance whose prompts they serve."""

    def __init__(
        self,
        clock: Clock,
        plan: Plan,
        names: Sequence[str],
        places: Sequence[Place],
        next_use: Callable[[int, int], int] | None = None,
        seed: int = 0,
    ) -> None:
        """``places``: of those instances, by number. Raises ``ConfigError`` for tiers that hold not even a chunk."""
        self._plan, self._next_use, self._seed = plan, next_use, seed
        self.names = tuple(names)
        self.rules = rules_of(plan)
        self.movements = Movements()
        self.census: dict[int, int] = {}
        """Copies of each shared chunk over all tiers; 0: all evicted."""
        self.stray = Access()
        """What is known of chunks that an engine evicts."""
        self.tiers: dict[str, list[Tier]] = {name: [] for name in names}
        self.ports: dict[str, list[Port]] = {}
        self._built: dict[tuple[str, int], Tier] = {}
        self._port: dict[tuple[str, int], Port] = {}
        self._hosts = 1 + max(place.host for place in places)
        self.backings = [
            Backing(clock, [self._level(name, place, i) for name in names], self.rules, self.movements)
            for i, place in enumerate(places)
        ]

    def restart(self) -> None:
        """All memory is lost; what stands on drives is not."""
        for name in VOLATILE:
            for tier in self.tiers.get(name, ()):
                tier.lose_all()

    def backup_s_per_token(self, instance: int) -> float:
        """What a step that waits for it spends on copying a token's KV to the first tier, nobody else on the way."""
        rules, way = self.rules, self.backings[instance].levels[0].write_way(0)
        return rules.chunk_bytes / rules.chunk_tokens / min(lane.bytes_per_s for lane in way)

    def check_integrity(self) -> None:
        for tiers in self.tiers.values():
            for tier in tiers:
                tier.check_integrity()

    def _level(self, name: str, place: Place, instance: int) -> Level:
        return {"dram": self._dram, "eic": self._eic, "ssd": self._ssd}[name](place, instance)

    def _dram(self, place: Place, instance: int) -> Level:
        """The host's memory, over each instance's own ways there."""
        dram, gpus = self._plan.config.hardware.dram, self._plan.spec.tensor_parallel
        tier = self._tier("dram", place.host, dram.capacity_gb * GB, "hardware.dram.capacity_gb")
        latency_s = dram.read_latency_ms * MILLI
        read = (
            Lane(self._at("dram instance read", instance), dram.read_gb_per_s * gpus * GB, latency_s),
            Lane(self._at("dram read", place.host), dram.host_gb_per_s * GB),
        )
        write = (
            Lane(self._at("dram instance write", instance), dram.write_gb_per_s * gpus * GB, latency_s),
            Lane(self._at("dram write", place.host), dram.host_gb_per_s * GB),
        )
        return Level(tier, lambda _: read, lambda _: write)

    def _eic(self, place: Place, instance: int) -> Level:
        """The rack's pool, over each instance's NICs."""
        config = self._plan.config.cluster
        eic = config.eic
        capacity_bytes = eic.nodes_per_rack * eic.capacity_per_node_gb * GB
        tier = self._tier("eic", place.rack, capacity_bytes, "cluster.eic.capacity_per_node_gb")
        nics_bytes_per_s = self._plan.nic_bytes_per_s
        latency_s = eic.access_latency_ms * MILLI + config.network.intra_rack_latency_us * MICRO
        read = (
            Lane(self._at("eic instance read", instance), nics_bytes_per_s, latency_s),
            Lane(self._at("eic read", place.rack), eic.read_gb_per_s * GB),
        )
        write = (
            Lane(self._at("eic instance write", instance), nics_bytes_per_s, latency_s),
            Lane(self._at("eic write", place.rack), eic.write_gb_per_s * GB),
        )
        return Level(tier, lambda _: read, lambda _: write)

    def _ssd(self, place: Place, instance: int) -> Level:
        """Drives: the host's own, or those of all hosts of the rack or the cluster, over which chunks are spread."""
        config, ssd = self._plan.config, self._plan.config.hardware.ssd
        scope = config.cluster.ssd_scope
        own_hosts = {"host": range(place.host, place.host + 1), "cluster": range(self._hosts)}
        hosts = own_hosts.get(scope) or self._hosts_of(place.rack)
        group = {"host": place.host, "rack": place.rack, "cluster": 0}[scope]
        tier = self._tier("ssd", group, ssd.capacity_gb * GB * len(hosts), "hardware.ssd.capacity_gb")
        network = config.cluster.network
        own_s = ssd.read_latency_ms * MILLI
        near_s = own_s + network.remote_ssd_latency_us * MICRO
        far_s = near_s + network.cross_rack_latency_us * MICRO
        nics_bytes_per_s, rack_hosts = self._plan.nic_bytes_per_s, self._hosts_of(place.rack)

        def way(direction: str, gb_per_s: float, key: int) -> Way:
            host = hosts[_spread(key) % len(hosts)]
            drives = self._at("ssd", host)
            if host == place.host:
                return (Lane(drives, gb_per_s * GB, own_s),)
            latency_s = near_s if host in rack_hosts else far_s
            nics = Lane(self._at(f"ssd instance {direction}", instance), nics_bytes_per_s, latency_s)
            return (nics, Lane(drives, gb_per_s * GB))

        return Level(
            tier,
            lambda key: way("read", ssd.read_gb_per_s, key),
            lambda key: way("write", ssd.write_gb_per_s, key),
        )

    def _hosts_of(self, rack: int) -> range:
        cluster = self._plan.config.cluster
        per_rack = max(1, cluster.simulate_gpus_per_rack // cluster.network.gpus_per_host)
        return range(rack * per_rack, min((rack + 1) * per_rack, self._hosts))

    def _tier(self, name: str, group: int, capacity_bytes: float, key: str) -> Tier:
        built = self._built.get((name, group))
        if built is not None:
            return built
        chunks = int(capacity_bytes // self.rules.chunk_bytes)
        if not chunks:
            raise ConfigError(
                f"{key}: {capacity_bytes / GB:g} GB hold no chunk of {self.rules.chunk_tokens} tokens, which takes "
                f"{self.rules.chunk_bytes / GB:.3g} GB"
            )
        seed = self._seed + len(self._built)
        config = self._plan.config
        loses = name in VOLATILE and config.cache.restart_after_requests is not None
        eviction, admission = eviction_of(config, chunks, seed), admission_of(config, chunks)
        tier = Tier(name, chunks, eviction, admission, self.census, self._next_use, is_volatile=loses)
        self._built[name, group] = tier
        self.tiers[name].append(tier)
        return tier

    def _at(self, name: str, number: int) -> Port:
        port = self._port.get((name, number))
        if port is None:
            port = self._port[name, number] = Port(f"{name} {number}")
            self.ports.setdefault(name, []).append(port)
        return port


def _spread(key: int) -> int:
    """Neighbouring chunks on one host, prompts on all of them (Knuth's multiplicative hash of the chain)."""
    return (key >> 21) * 2654435761 >> 7


def rules_of(plan: Plan) -> Rules:
    cache, spec = plan.config.cache, plan.prefill.spec
    return Rules(
        chunk_tokens=cache.chunk_tokens,
        chunk_bytes=cache.chunk_tokens * spec.kv_bytes_per_token,
        writes_through=cache.write_policy == "write_through",
        inclusive=cache.inclusive,
        promotes=cache.promote_on_hit,
        recomputes=cache.load_or_recompute,
        most_write_wait_s=cache.max_write_wait_s,
    )


def eviction_of(config: Config, capacity_chunks: int, seed: int) -> Eviction | None:
    """``None``: the tier's own LRU. Raises ``ConfigError`` for a policy nobody knows."""
    if config.policies.eviction == "lru":
        return None
    if config.policies.eviction == "learned":
        from kvsim.policy.eviction.learned import Learned

        return Learned.from_file(capacity_chunks, config.policies.learned_model, seed)
    return make_eviction(config.policies.eviction, capacity_chunks, seed)


def admission_of(config: Config, capacity_chunks: int) -> Admission | None:
    """``None``: everything is let in. Raises ``ConfigError`` for a policy nobody knows."""
    policies = config.policies
    name = "selective_write" if policies.selective_write else policies.admission
    if name == "all":
        return None
    settings = AdmissionSettings(capacity_chunks, policies.selective_write_depth_threshold, policies.ttl_s)
    return make_admission(name, settings)


def next_uses(workload: Workload, block_size: int, chunk_blocks: int) -> Callable[[int, int], int]:
    """For policies that know the future: the next request after a given one that asks for a chunk."""
    from bisect import bisect_right

    from kvsim.cache.chunks import chunk_keys, is_shared
    from kvsim.node.sequence import block_path
    from kvsim.policy.eviction import NEVER

    uses: dict[int, list[int]] = {}
    for request in workload:
        limit = (request.prompt_tokens - 1) // block_size
        for key in chunk_keys(block_path(request, block_size), limit, chunk_blocks):
            if is_shared(key):
                uses.setdefault(key, []).append(request.request_id)

    def next_use(key: int, index: int) -> int:
        found = uses.get(key)
        if found is None:
            return NEVER
        place = bisect_right(found, index)
        return found[place] if place < len(found) else NEVER

    return next_use
