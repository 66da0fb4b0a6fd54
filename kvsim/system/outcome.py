"""From a system that has run to the result that the reports read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.node.engine import Engine
from kvsim.record.conservation import exact, kv_checks, request_checks
from kvsim.record.result import CacheUse, Check, Distribution, RoleUse, SystemResult, Table, TransferUse
from kvsim.record.steps import StepLog
from kvsim.system.pd import PdSystem
from kvsim.system.plan import Plan
from kvsim.system.serving import ServingSystem
from kvsim.system.tieruse import tier_checks, tier_notes, with_tiers
from kvsim.system.unified import UnifiedSystem


def outcome(
    system: UnifiedSystem | PdSystem,
    *,
    warmup_requests: int,
    unsteady_factor: float,
    loads: dict[str, float],
    notes: tuple[str, ...] = (),
) -> SystemResult:
    """The result of a run. ``loads``: each role's request rate over its analytic maximum, where known."""
    table = system.requests.table()
    counts, end_s = system.counts, system.clock.now
    measured = table["request_id"] >= warmup_requests
    window_s = _window_s(system, table, measured, warmup_requests, end_s)
    steady, why = _steadiness(table, measured, unsteady_factor)
    logs = _logs(system)
    for log in logs.values():
        log.flush()
    return SystemResult(
        name=system.name,
        arrived=counts.arrived,
        completed=counts.completed,
        failed=counts.failed,
        in_flight=counts.in_flight,
        table=table,
        measured=measured,
        window_s=window_s,
        itl=_merged_itl(logs),
        roles=tuple(
            _role_use(role, engines, logs[role], system, window_s, end_s, loads)
            for role, engines in _roles(system).items()
        ),
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
        steady=steady and not system.incomplete,
        steady_why=why,
        incomplete=system.incomplete,
        notes=(*notes, *system.notes, *_tier_notes(system)),
    )


def _roles(system: ServingSystem) -> dict[str, list[Engine]]:
    if isinstance(system, PdSystem):
        return {"prefill": system.front, "decode": system.decode}
    return {"colocated": system.front}


def _logs(system: ServingSystem) -> dict[str, StepLog]:
    if isinstance(system, PdSystem):
        return {"prefill": system.front_log, "decode": system.decode_log}
    return {"colocated": system.front_log}


def _all_engines(system: ServingSystem) -> list[Engine]:
    return [engine for engines in _roles(system).values() for engine in engines]


def _merged_itl(logs: dict[str, StepLog]) -> Distribution:
    """Answers come from one side: prefill instances generate no second token."""
    return logs["decode" if "decode" in logs else "colocated"].itl.distribution()


def _window_s(
    system: ServingSystem, table: Table, measured: np.ndarray, warmup_requests: int, end_s: float
) -> tuple[float, float]:
    """From where completions keep up with arrivals to the last arrival.

    Completions lag arrivals by E2E, so it begins when the run is as old as the 95th percentile of E2E, rounded up to a
    tenth of the arrivals' span so that systems of nearly the same E2E have the same window, and not before the first
    measured arrival. Where that leaves less than a quarter of the span, or nothing completed, it is the whole run.
    """
    closed = system.workload.is_closed
    arrivals_s = np.sort(table["arrival_s"]) if closed else system.workload.arrival_s
    if not len(arrivals_s) or not measured.any():
        return 0.0, end_s
    first_s = float(arrivals_s[min(warmup_requests, len(arrivals_s) - 1)])
    stop_s = min(float(arrivals_s[-1]), end_s)
    finished_s = table["finish_s"]
    e2e_s = float(np.percentile((finished_s - table["arrival_s"])[measured], 95))
    tenth_s = (stop_s - float(arrivals_s[0])) / 10
    start_s = max(first_s, float(arrivals_s[0]) + math.ceil(e2e_s / tenth_s) * tenth_s) if tenth_s > 0 else stop_s
    completed = np.any((finished_s > start_s) & (finished_s <= stop_s))
    if stop_s - start_s < 2.5 * tenth_s or not completed:
        return (first_s if first_s < end_s else 0.0), end_s
    return start_s, stop_s


def _steadiness(table: Table, measured: np.ndarray, factor: float) -> tuple[bool, str]:
    """Whether the run had at least ``factor`` x E2E x rate requests, so that decode could fill up."""
    num = int(measured.sum())
    arrivals_s = table["arrival_s"][measured]
    span_s = float(arrivals_s.max() - arrivals_s.min()) if num else 0.0
    if span_s <= 0:
        return False, "too few measured requests to tell"
    e2e_s = float((table["finish_s"] - table["arrival_s"])[measured].mean())
    needed = math.ceil(factor * e2e_s * num / span_s)
    if num < needed:
        return False, f"{num:,} measured requests; a steady state needs {needed:,} ({factor:g} x E2E x rate)"
    return True, f"{num:,} measured requests, {needed:,} needed ({factor:g} x E2E x rate)"


def _role_use(
    role: str,
    engines: Sequence[Engine],
    log: StepLog,
    system: ServingSystem,
    window_s: tuple[float, float],
    end_s: float,
    loads: dict[str, float],
) -> RoleUse:
    num = len(engines)
    span_s = window_s[1] - window_s[0]
    timeline_s, busy = log.timeline(end_s)
    capacity_block_s = sum(engine.settings.num_blocks for engine in engines) * end_s
    return RoleUse(
        role=role,
        instances=num,
        gpus=num * _degree(system.plan, role),
        busy=min(1.0, log.busy_between(*window_s) / (num * span_s)) if span_s > 0 else math.nan,
        kv_usage=log.held_block_s / capacity_block_s if capacity_block_s > 0 else math.nan,
        load=loads.get(role, math.nan),
        timeline_s=timeline_s,
        timeline_busy=np.minimum(busy / num, 1.0),
    )


def _degree(plan: Plan, role: str) -> int:
    prefill, decode = plan.degrees
    return {"prefill": prefill, "decode": decode}.get(role, plan.spec.tensor_parallel)


def _cache_use(system: ServingSystem, table: Table) -> CacheUse:
    front = system.front
    instances = np.unique(table["prefill_instance"]).astype(int).tolist()
    use = CacheUse(
        query_tokens=sum(engine.scheduler.query_tokens for engine in front),
        hit_tokens=sum(engine.scheduler.hit_tokens for engine in front),
        evicted_blocks=sum(engine.pool.evicted_blocks for engine in front),
        blocks_per_instance=front[0].settings.num_blocks,
        preemptions=sum(engine.scheduler.preemptions for engine in _all_engines(system)),
        active_instances=len(instances),
        active_racks=len({system.places[instance].rack for instance in instances}),
    )
    return use if system.tiers is None else with_tiers(use, system.tiers, system.clock.now)


def _transfer_use(system: PdSystem, end_s: float) -> TransferUse:
    network, transfers = system.network, system.transfers
    topology, returned_bytes = network.topology, system.returned_bytes
    outs, ins = topology.links("nic_out"), topology.links("nic_in")
    out_capacity_bytes = len(system.front) * system.plan.prefill.nic_bytes_per_s * end_s
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
