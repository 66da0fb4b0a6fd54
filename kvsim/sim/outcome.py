"""From a system that has run to the result that the reports read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.plan.plan import Plan
from kvsim.record.percentiles import distribution
from kvsim.record.result import CacheUse, Check, Distribution, Held, RoleUse, SystemResult, Table, TransferUse
from kvsim.record.windows import measured_alike
from kvsim.sim.engine.engine import Engine
from kvsim.sim.log.conservation import exact, kv_checks, request_checks
from kvsim.sim.log.steps import StepLog
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.sim.tiers.use import tier_checks, tier_notes, with_tiers


def outcome(
    system: UnifiedSystem | PdSystem,
    *,
    warmup_requests: int,
    unsteady_factor: float,
) -> SystemResult:
    """The result of a run, measured over a window of its own: ``measured_alike`` gives several the same.

    Loads of roles are not known yet. ITL is that of the requests which count where the run was told of
    ``warmup_requests`` too, else there is none.
    """
    table = system.requests.table()
    counts, end_s = system.counts, system.clock.now
    measured = table["request_id"] >= warmup_requests
    logs = _logs(system)
    for log in logs.values():
        log.flush()
    arrivals_s = np.array([mark.time_s for mark in system.marks[:-1]])
    result = SystemResult(
        name=system.name,
        arrived=counts.arrived,
        completed=counts.completed,
        failed=counts.failed,
        in_flight=counts.in_flight,
        table=table,
        measured=measured,
        window_s=(0.0, end_s),
        itl=_merged_itl(logs) if warmup_requests == system.warmup_requests else distribution(np.zeros(0)),
        roles=tuple(_role_use(role, engines, logs[role], system, end_s) for role, engines in _roles(system).items()),
        cache=_cache_use(system, table),
        transfer=_transfer_use(system, end_s) if isinstance(system, PdSystem) else None,
        checks=(
            *request_checks(table, counts),
            *_block_checks(system),
            *_byte_checks(system),
            *_tier_checks(system, table),
        ),
        end_s=end_s,
        sim_cpu_s=system.sim_cpu_s,
        events=system.clock.num_events,
        steady=False,
        steady_why="",
        incomplete=system.incomplete,
        notes=(*system.notes, *_tier_notes(system)),
        marks_s=arrivals_s,
        first_measured_s=_first_measured_s(system, table, measured, warmup_requests),
        failed_arrival_s=np.array(system.failed_arrival_s),
        is_closed=system.workload.is_closed,
    )
    return measured_alike([result], unsteady_factor, {})[0]


def _first_measured_s(system: ServingSystem, table: Table, measured: np.ndarray, warmup_requests: int) -> float:
    if not system.workload.is_closed and warmup_requests < len(system.workload):
        return float(system.workload.arrival_s[warmup_requests])
    return float(table["arrival_s"][measured].min()) if measured.any() else 0.0


def _roles(system: ServingSystem) -> dict[str, list[Engine]]:
    if isinstance(system, PdSystem):
        return {"prefill": system.prefill_engines, "decode": system.decode}
    return {"colocated": system.prefill_engines}


def _logs(system: ServingSystem) -> dict[str, StepLog]:
    if isinstance(system, PdSystem):
        return {"prefill": system.prefill_log, "decode": system.decode_log}
    return {"colocated": system.prefill_log}


def _all_engines(system: ServingSystem) -> list[Engine]:
    return [engine for engines in _roles(system).values() for engine in engines]


def _merged_itl(logs: dict[str, StepLog]) -> Distribution:
    """Answers come from one side: prefill instances generate no second token."""
    return logs["decode" if "decode" in logs else "colocated"].itl.distribution()


def _role_use(
    role: str,
    engines: Sequence[Engine],
    log: StepLog,
    system: ServingSystem,
    end_s: float,
) -> RoleUse:
    """What depends on the window is still to be had."""
    num = len(engines)
    timeline_s, busy = log.timeline(end_s)
    return RoleUse(
        role=role,
        instances=num,
        gpus=num * _degree(system.plan, role),
        busy=math.nan,
        kv_usage=math.nan,
        load=math.nan,
        timeline_s=timeline_s,
        timeline_busy=np.minimum(busy / num, 1.0),
        held=Held(
            np.array([mark.time_s for mark in system.marks]),
            np.array([mark.held_block_s[role] for mark in system.marks]),
            sum(engine.settings.num_blocks for engine in engines),
        ),
    )


def _degree(plan: Plan, role: str) -> int:
    prefill, decode = plan.degrees
    return {"prefill": prefill, "decode": decode}.get(role, plan.spec.tensor_parallel)


def _cache_use(system: ServingSystem, table: Table) -> CacheUse:
    prefill_engines = system.prefill_engines
    instances = np.unique(table["prefill_instance"]).astype(int).tolist()
    use = CacheUse(
        query_tokens=sum(engine.scheduler.query_tokens for engine in prefill_engines),
        hit_tokens=sum(engine.scheduler.hit_tokens for engine in prefill_engines),
        evicted_blocks=sum(engine.pool.evicted_blocks for engine in prefill_engines),
        blocks_per_instance=prefill_engines[0].settings.num_blocks,
        preemptions=sum(engine.scheduler.preemptions for engine in _all_engines(system)),
        active_instances=len(instances),
        active_racks=len({system.places[instance].rack for instance in instances}),
    )
    return use if system.tiers is None else with_tiers(use, system.tiers, system.clock.now)


def _transfer_use(system: PdSystem, end_s: float) -> TransferUse:
    network, transfers = system.network, system.transfers
    topology, returned_bytes = network.topology, system.returned_bytes
    outs, ins = topology.links("nic_out"), topology.links("nic_in")
    out_capacity_bytes = len(system.prefill_engines) * system.plan.prefill.nic_bytes_per_s * end_s
    in_capacity_bytes = len(system.decode) * system.plan.decode.nic_bytes_per_s * end_s
    out_bytes = sum(network.carried[outs[place]] for place in system.prefill_places)
    in_bytes = sum(network.carried[ins[place]] for place in system.decode_places)
    return TransferUse(
        transfers=transfers,
        bytes_sent=network.bytes_sent - returned_bytes,
        bytes_received=network.bytes_received - returned_bytes,
        hidden_share=system.hidden_s / system.transfer_s if system.transfer_s > 0 else math.nan,
        mean_s=system.transfer_s / transfers if transfers else math.nan,
        nic_out_utilisation=out_bytes / out_capacity_bytes if out_capacity_bytes > 0 else math.nan,
        nic_in_utilisation=in_bytes / in_capacity_bytes if in_capacity_bytes > 0 else math.nan,
        reservation_waits=system.reservation_waits + sum(engine.seat_waits for engine in system.decode),
        returned_bytes=returned_bytes,
    )


def _block_checks(system: ServingSystem) -> list[Check]:
    """Each pool's own books (free + cached + in use = its size); once everyone is gone nothing is in use."""
    engines = _all_engines(system)
    total = sum(engine.settings.num_blocks for engine in engines)
    for engine in engines:
        engine.pool.check_integrity()
    if system.counts.in_flight:
        return []
    free = sum(engine.pool.num_free for engine in engines)
    return [exact("blocks free once all requests are gone = pool size, over all instances", total, free)]


def _byte_checks(system: ServingSystem) -> list[Check]:
    if not isinstance(system, PdSystem):
        return []
    network = system.network
    checks = kv_checks(system.kv_books)
    if system.counts.in_flight:
        return checks
    sent_bytes = float(system.requests.table()["transferred_bytes"].sum()) + system.returned_bytes
    arrived_bytes = network.bytes_received + network.bytes_in_air
    checks.append(_close("bytes sent, by request = received + in the air, over the links", sent_bytes, arrived_bytes))
    if network.bytes_in_air < 0.5:
        checks.append(_close("bytes asked of the links = carried by them", network.work_asked, network.work_done))
    return checks


def _tier_checks(system: ServingSystem, table: Table) -> list[Check]:
    return [] if system.tiers is None or system.counts.in_flight else tier_checks(system.tiers, table)


def _tier_notes(system: ServingSystem) -> list[str]:
    return [] if system.tiers is None else tier_notes(system.tiers, system.plan.config)


def _close(name: str, expected: float, found: float) -> Check:
    return Check(name, expected, found, math.isclose(expected, found, rel_tol=1e-9, abs_tol=1.0))
