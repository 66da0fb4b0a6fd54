"""Random small clusters of every kind of engine, tier and network that a plan can have, to whose parts and clients
something happens, and how their books are closed when they have drained."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
from builders import colocated
from engine_variety import KINDS, UNIFIED_ALONE, case_of
from random_fleets import random_clients, random_event
from tiered_case import SMALL, TOKEN_GB, case

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.sim.fleet.units import DRAINING, UP
from kvsim.sim.systems.fleet import Fleet
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.graph import RequestGraph
from kvsim.workload.workload import Workload

AT_THEIR_OWN_PACE = ("plain", "hybrid", "radix", "sglang", "adapters", "tiers")
"""Kinds whose engines can hang and slow down."""
_SLOWEST_END_S = 1e5


def random_cluster(rng: Random, separated: bool) -> tuple[Plan, Workload]:
    """A few instances of any kind, which fail and come back, and clients with little patience."""
    kind = rng.choice([*KINDS, "tiers", "tiers", "tiers"])
    if separated and kind in UNIFIED_ALONE:
        kind = "tiers"
    found, requests = tiered(rng) if kind == "tiers" else case_of(kind, rng)
    if kind != "tiers" and not separated and kind != "lockstep":
        found = replace(colocated(found), num_instances=rng.choice([1, 2, 3]))
    if kind == "lockstep":
        found = in_groups(found, separated)
    roles = {"prefill": found.num_prefill, "decode": found.num_decode}
    if not separated:
        roles = {"colocated": found.num_instances}
    events = tuple(event(rng, kind, found, roles, separated) for _ in range(rng.choice([1, 2, 4])))
    config = found.config
    fleet = {"events": events, "detection_s": rng.choice([0.0, 0.0, 1.0]), "resend": rng.random() < 0.7}
    routing = {"max_in_flight": None if separated else rng.choice([None, None, 1, 3])}
    if kind != "tiers":
        routing["prefill"] = rng.choice(["affinity", "least_loaded", "two_choices", "round_robin", "dynamo", "llmd"])
    changed = {
        "fleet": config.fleet.model_copy(update=fleet),
        "clients": random_clients(rng),
        "routing": config.routing.model_copy(update=routing),
    }
    return replace(found, config=config.model_copy(update=changed)), in_turns(rng, requests)


def in_groups(found: Plan, separated: bool) -> Plan:
    """Engines of a mixture of experts that share these two by two, where there are as many: what fails is a group."""
    found = found if separated else replace(found, num_instances=4)
    if separated and (found.num_prefill, found.num_decode) != (2, 2):
        return found
    model = replace(found.spec.model, num_experts=8, experts_per_token=2, expert_intermediate_size=16)
    return found.with_instances(spec=replace(found.spec, model=model, expert_parallel=2))


def tiered(rng: Random) -> tuple[Plan, Workload]:
    """Instances of one or two racks over memory, pools and drives, by either connector."""
    offloading = rng.random() < 0.35
    racks = rng.choice([1, 2])
    chosen = {
        "cache.tiers": rng.choice([["dram"], ["dram", "eic"], ["dram", "eic", "ssd"], ["eic"], ["dram", "ssd"]]),
        "cache.connector": "offloading" if offloading else "general",
        "cluster.simulate_racks": racks,
        "cluster.simulate_gpus_per_rack": 8 // racks,
        "cluster.network.gpus_per_host": rng.choice([1, 8 // racks]),
        "cluster.network.rack_oversubscription": rng.choice([1.0, 4.0]),
        "cluster.ssd_scope": rng.choice(["host", "rack", "cluster"]),
        "hardware.dram.scope": rng.choice(["host", "instance"]),
        "routing.prefill": rng.choice(["affinity", "least_loaded", "round_robin"]),
        "cache.num_workers": rng.choice([1, 2, 4]),
        "hardware.ssd.capacity_gb": SMALL["cache.chunk_tokens"] * TOKEN_GB * rng.randint(16, 40),
    }
    if offloading:
        chosen |= {"cache.tiers": ["dram"], "cache.load_at": "scheduling"}
    else:
        chosen["cache.write_policy"] = rng.choice(["write_through", "write_back"])
    return case(rng, chosen)


def event(rng: Random, kind: str, found: Plan, roles: dict[str, int], separated: bool) -> FleetEvent:
    """Something that can happen to a part of this kind of cluster."""
    network = found.config.cluster.network
    areas = []
    if kind == "tiers":
        areas = [("pool", "eic"), ("drive", "ssd")]
        areas = [area for area, tier in areas if tier in found.tiers]
        if separated and network.rack_oversubscription > 1 and found.config.cluster.simulate_racks > 1:
            areas.append("uplink")
        areas += ["host", "rack"]
    if areas and rng.random() < 0.5:
        return area_event(rng, rng.choice(areas))
    while True:
        made = random_event(rng, roles, separated)
        if made.kind in ("slow", "hang") and kind not in AT_THEIR_OWN_PACE:
            continue
        if made.mtbf_h is not None:  # seldom enough for the longest request to get through
            made = made.model_copy(update={"mtbf_h": rng.uniform(30, 200) / 3600})
        return made


def area_event(rng: Random, area: str) -> FleetEvent:
    """Something that happens to a whole rack or host, or to what stands there."""
    when: dict[str, float] = (
        {"at_s": rng.uniform(0, 20)} if rng.random() < 0.8 else {"mtbf_h": rng.uniform(30, 200) / 3600}
    )
    lasts = {} if rng.random() < 0.1 else {"duration_s": rng.choice([0.0, 2.0, rng.uniform(0, 20)])}
    if area in ("host", "rack"):
        kind = rng.choice(["fail", "fail", "drain"])
        return FleetEvent(kind=kind, **{area: 0}, **when, **lasts)  # type: ignore[arg-type]
    share = {"share": rng.choice([0.5, 0.01])} if area == "uplink" else {}
    return FleetEvent(kind=area, **share, **when, **lasts)  # type: ignore[arg-type]


def in_turns(rng: Random, requests: Workload) -> Workload:
    """The same requests, some of which wait for others to end, or for a place."""
    if rng.random() < 0.25:
        after = [rng.choice([-1, rng.randrange(row)]) if row else -1 for row in range(len(requests))]
        wait_s = np.array([rng.choice([0.0, 0.5, 2.0]) for _ in after])
        requests = replace(requests, graph=RequestGraph.turns(np.array(after), wait_s))
    if rng.random() < 0.15:
        requests = replace(requests, max_concurrency=rng.randint(1, 4))
    return requests


def drain(system: PdSystem | UnifiedSystem) -> None:
    """Let what is on its way after the last answer come to its end, and see that every book is closed."""
    fleet, clock, end_s = system.fleet, system.clock, system.clock.now
    assert isinstance(fleet, Fleet)
    while not all(engine.is_quiet for engine in system.engines()) and clock.now < end_s + _SLOWEST_END_S:
        clock.run_until(clock.now + 20.0)
    for engine in system.engines():
        engine.pool.check_integrity()
        assert engine.pool.num_free == engine.pool.num_blocks, (engine.role, engine.instance)
        assert not engine.scheduler.has_unfinished and not engine.scheduler.batch.num
        assert not engine.reservation.pending
        assert not engine.reservation.outstanding_tokens(engine.batch.steps)
    for role, units in fleet.roles.items():
        loads = system.loads_of(role)
        for unit in units.units:
            for engine in unit.engines:
                number = engine.instance
                assert abs(loads.load(number)) < 1e-9, (role, number, loads.load(number))
                assert loads.is_out(number) == (unit.is_known and unit.status != UP), (role, number)
        expected = sum(not loads.is_out(number) for number in range(len(loads.loads)))
        assert loads.in_service == expected and abs(loads.total) < 1e-6
    if isinstance(system, UnifiedSystem):
        assert not any(system.backlog_tokens)
    if isinstance(system, PdSystem):
        numbers = range(len(system.decode_engines))
        assert not any(system.decode_loads.requests(number) for number in numbers)
        assert not system._waiting and not system.num_open
    if system.in_flight is not None:
        books = system.in_flight
        assert not any([*books.requests, *books.waiting, *books.waiting_tokens, *books.held_tokens])
    if system.tiers is not None:
        system.tiers.hierarchy.settle()
        system.tiers.hierarchy.check_integrity()
    assert not fleet._held and not fleet._stranded and not fleet._waiting
    units = [unit for role in fleet.roles.values() for unit in role.units]
    for unit in units:
        if unit.status == DRAINING:
            assert not system.is_empty(unit.role, {engine.instance for engine in unit.engines})
