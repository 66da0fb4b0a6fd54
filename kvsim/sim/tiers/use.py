"""What the tiers of a run did, as the result reports it, and the laws they must have kept."""

from __future__ import annotations

from dataclasses import asdict, replace

from kvsim.config import Config
from kvsim.record.result import CacheUse, Check, Table, TierUse
from kvsim.sim.log.conservation import exact
from kvsim.sim.tiers.lookup import Tiers
from kvsim.sim.tiers.ports import Port
from kvsim.sim.tiers.transfers import port_backlog_s
from kvsim.spec.tier_kinds import DRAM, EIC


def with_tiers(use: CacheUse, tiers: Tiers, end_s: float) -> CacheUse:
    """``use`` and what stands below the engines' own caches."""
    tiers.hierarchy.settle()
    misses = asdict(tiers.log.misses)
    misses["gone_tokens"] = max(0, use.query_tokens - use.hit_tokens - sum(misses.values()))
    return replace(
        use,
        tiers=tuple(_tier_use(tiers, number, end_s) for number in range(len(tiers.hierarchy.names))),
        misses=misses,
        movements=asdict(tiers.hierarchy.traffic),
        loads=tiers.loads,
    )


def tier_notes(use: CacheUse, config: Config) -> list[str]:
    """What a reader may not expect: memory that was not written to, a policy that did nothing."""
    found = [
        f"{tier.dropped_chunks:,} chunks were not written to {tier.name}: they would have waited for its port for more "
        f"than cache.max_write_wait_s = {config.cache.max_write_wait_s:g}"
        for tier in use.tiers
        if tier.dropped_chunks
    ]
    found += _shadow_notes(use)
    prefetch = config.policies.prefetch
    if use.tiers and prefetch != "none" and not use.movements["prefetched_chunks"]:
        found.append(f"prefetching ({prefetch}) brought nothing up")
    return found


def _shadow_notes(use: CacheUse) -> list[str]:
    """A pool that no other host reaches stands behind memory that has the same."""
    hosts, pools = ([tier for tier in use.tiers if tier.name == name] for name in (DRAM.name, EIC.name))
    if not (hosts and pools) or hosts[0].tiers != pools[0].tiers or pools[0].loaded_tokens:
        return []
    return [
        "each rack has one host here, whose memory has what the rack's pool has: nothing came from a pool (eic); more "
        "hosts, which would share it, come with cluster.simulate_gpus_per_rack"
    ]


def tier_transfers(tiers: Tiers) -> tuple[int, ...]:
    """By tier: transfers over its ports."""
    return tuple(sum(port.transfers for port in _ports(tiers, name)) for name in tiers.hierarchy.names)


def _ports(tiers: Tiers, name: str) -> list[Port]:
    return [port for kind, found in tiers.hierarchy.ports.items() if kind.split()[0] == name for port in found]


def _tier_use(tiers: Tiers, number: int, end_s: float) -> TierUse:
    hierarchy = tiers.hierarchy
    name, chunk_bytes = hierarchy.names[number], hierarchy.rules.chunk_bytes
    own = hierarchy.tiers[name]
    views = [connector.views[number] for connector in hierarchy.connectors]
    ports = _ports(tiers, name)
    busy_s = max((_busy_by(port, end_s) for port in ports if port.queues), default=0.0)
    transfers = sum(port.transfers for port in ports)
    return TierUse(
        name=name,
        tiers=len(own),
        capacity_bytes=sum(tier.capacity_chunks for tier in own) * chunk_bytes,
        held_bytes=sum(len(tier) for tier in own) * chunk_bytes,
        loaded_tokens=tiers.loaded_tokens[number],
        stored_chunks=sum(tier.stored for tier in own),
        evicted_chunks=sum(tier.evicted for tier in own),
        refused_chunks=sum(tier.refused for tier in own),
        dropped_chunks=sum(view.dropped_chunks for view in views),
        read_bytes=sum(view.read_bytes for view in views),
        written_bytes=sum(view.written_bytes for view in views),
        busiest_share=busy_s / end_s if end_s > 0 else 0.0,
        mean_wait_s=sum(port.waited_s for port in ports) / transfers if transfers else 0.0,
    )


def _busy_by(port: Port, end_s: float) -> float:
    """Seconds that a port was busy by then: what is left at the end is booked already."""
    return max(port.busy_s - port_backlog_s(port, end_s), 0.0)


def tier_checks(tiers: Tiers, table: Table) -> list[Check]:
    """Chunks of each tier, tokens and bytes; for a run in which nobody is left in flight."""
    hierarchy = tiers.hierarchy
    hierarchy.settle()
    hierarchy.check_integrity()
    checks = []
    for name in hierarchy.names:
        own = hierarchy.tiers[name]
        left = sum(tier.evicted + tier.discarded + len(tier) for tier in own)
        checks.append(exact(f"chunks stored in {name} = evicted + taken out + there", sum(t.stored for t in own), left))
    served = sum(tiers.loaded_tokens)
    checks.append(exact("tokens loaded, by request = by tier", float(table["loaded_tokens"].sum()), served))
    loaded = sum(view.loaded_tokens for connector in hierarchy.connectors for view in connector.views)
    spent = served + hierarchy.traffic.lost_tokens
    checks.append(exact("tokens that tiers sent up = served + lost on the way", loaded, spent))
    return checks
