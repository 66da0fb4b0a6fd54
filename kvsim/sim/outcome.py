"""From a system that has run to the result that the reports read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.plan.plan import Plan
from kvsim.record.detail import Detail, DraftUse, InstanceFacts
from kvsim.record.percentiles import distribution
from kvsim.record.result import AdapterUse, CacheUse, Check, Distribution, Held, PoolUse, RoleUse, SystemResult, Table
from kvsim.record.windows import measured_alike
from kvsim.sim.engine.drafting import DraftCounts
from kvsim.sim.engine.engine import Engine, Role
from kvsim.sim.engine.speculative import SpeculativeScheduler
from kvsim.sim.log.conservation import detail_checks, exact, request_checks
from kvsim.sim.log.steps import StepLog
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.tiers.use import tier_checks, tier_notes, with_tiers
from kvsim.workload.workload import Workload


def outcome(
    system: ServingSystem, *, warmup_requests: int, unsteady_factor: float, name: str | None = None
) -> SystemResult:
    """The result of a run, measured over a window of its own: ``measured_alike`` gives several the same.

    ``name``: of the result, where that is not the system's.
    Loads of roles are not known yet. ITL is that of the requests which count where the run was told of
    ``warmup_requests`` too, else there is none.
    """
    workload = system.workload
    assert workload is not None, "a run has an end, and a result, where its requests are known"
    table = system.requests.table()
    counts, end_s = system.counts, system.clock.now
    measured = table["request_id"] >= warmup_requests
    logs = system.logs_by_role()
    for log in logs.values():
        log.flush()
    detail = _detail(system)
    arrivals_s = np.array([mark.time_s for mark in system.marks[:-1]])
    result = SystemResult(
        name=name or system.name,
        arrived=counts.arrived,
        completed=counts.completed,
        failed=counts.failed,
        in_flight=counts.in_flight,
        table=table,
        measured=measured,
        window_s=(0.0, end_s),
        itl=_merged_itl(logs) if warmup_requests == system.warmup_requests else distribution(np.zeros(0)),
        roles=tuple(
            _role_use(role, engines, logs[role], system, end_s, table)
            for role, engines in system.engines_by_role().items()
        ),
        cache=_cache_use(system, table),
        transfer=system.transfer_use(end_s),
        checks=(
            *request_checks(table, counts),
            *_block_checks(system),
            *system.byte_checks(),
            *_tier_checks(system, table),
            *_detail_checks(system, detail, table),
        ),
        end_s=end_s,
        sim_cpu_s=system.sim_cpu_s,
        events=system.clock.num_events,
        steady=False,
        steady_why="",
        incomplete=system.incomplete,
        notes=(*system.notes, *_tier_notes(system)),
        marks_s=arrivals_s,
        first_measured_s=_first_measured_s(workload, table, measured, warmup_requests),
        failed_arrival_s=np.array(system.failed_arrival_s),
        is_closed=workload.holds_back,
        drafts=_drafts_of(system.engines()),
        adapters=_adapters_of(system.engines()),
        detail=detail,
    )
    return measured_alike([result], unsteady_factor, {})[0]


def _detail(system: ServingSystem) -> Detail | None:
    log = system.detail
    if log is None:
        return None
    facts = []
    for number, engine in enumerate(system.engines()):
        place = system.place_of(engine)
        facts.append(
            InstanceFacts(
                role=engine.role,
                number=engine.instance,
                host=place.host,
                rack=place.rack,
                kv_blocks=engine.settings.num_blocks,
                peak_kv_blocks=log.engines[number].peak_blocks,
                preemptions=engine.scheduler.preemptions,
                evicted_blocks=engine.pool.evicted_blocks,
                drafts=_drafts_of([engine]),
            )
        )
    levels = log.levels.table(system.clock.now)
    return Detail(
        instances=tuple(facts),
        tiers=() if system.tiers is None else system.tiers.hierarchy.names,
        steps=log.steps.table(),
        chunks=log.chunks.table(),
        gaps=log.gaps.table(),
        transfers=log.transfers.table(),
        loads=log.loads.table(),
        served=log.served.table(),
        bin_s=log.levels.bin_s,
        levels=levels,
    )


def _drafts_of(engines: Sequence[Engine]) -> DraftUse | None:
    """What these engines drafted together; ``None`` where none of them drafts."""
    counts = [engine.scheduler.counts for engine in engines if isinstance(engine.scheduler, SpeculativeScheduler)]
    if not counts:
        return None
    drafted, accepted = ([sum(each) for each in zip(*lists, strict=True)] for lists in _by_position(counts))
    return DraftUse(sum(count.proposals for count in counts), tuple(drafted), tuple(accepted))


def _adapters_of(engines: Sequence[Engine]) -> AdapterUse | None:
    slots = [engine.adapter_slots for engine in engines if engine.adapter_slots is not None]
    if not slots:
        return None
    return AdapterUse(
        sum(one.from_host for one in slots), sum(one.from_disk for one in slots), sum(one.lost_s for one in slots)
    )


def _by_position(counts: Sequence[DraftCounts]) -> tuple[list[list[int]], list[list[int]]]:
    return [count.drafted for count in counts], [count.accepted for count in counts]


def _first_measured_s(workload: Workload, table: Table, measured: np.ndarray, warmup_requests: int) -> float:
    if not workload.is_closed and warmup_requests < len(workload):
        return float(workload.arrival_s[warmup_requests])
    return float(table["arrival_s"][measured].min()) if measured.any() else 0.0


def _merged_itl(logs: dict[Role, StepLog]) -> Distribution:
    """Answers come from one side: prefill instances generate no second token."""
    return logs["decode" if "decode" in logs else "colocated"].itl.distribution()


def _role_use(
    role: Role,
    engines: Sequence[Engine],
    log: StepLog,
    system: ServingSystem,
    end_s: float,
    table: Table,
) -> RoleUse:
    """What depends on the window is still to be had."""
    num = len(engines)
    timeline_s, busy = log.timeline(end_s)
    pools = _pool_uses(engines, system, end_s, table) if role == "colocated" else ()
    return RoleUse(
        role=role,
        instances=num,
        gpus=sum(pool.use.gpus for pool in pools) if pools else num * _degree(system.plan, role),
        busy=math.nan,
        kv_usage=math.nan,
        load=math.nan,
        timeline_s=timeline_s,
        timeline_busy=np.minimum(busy / num, 1.0),
        held=_held(role, engines, system),
        pools=pools,
    )


def _held(key: str, engines: Sequence[Engine], system: ServingSystem) -> Held:
    """``key``: what marks call these engines."""
    return Held(
        np.array([mark.time_s for mark in system.marks]),
        np.array([mark.held_block_s[key] for mark in system.marks]),
        sum(engine.settings.num_blocks for engine in engines),
    )


def _pool_uses(engines: Sequence[Engine], system: ServingSystem, end_s: float, table: Table) -> tuple[PoolUse, ...]:
    found = []
    first = 0
    for number, (pool, log) in enumerate(zip(system.plan.pools, system.pool_logs, strict=True)):
        own = engines[first : first + pool.instances]
        timeline_s, busy = log.timeline(end_s)
        served = (table["prefill_instance"] >= first) & (table["prefill_instance"] < first + pool.instances)
        use = RoleUse(
            role="colocated",
            instances=pool.instances,
            gpus=pool.gpus,
            busy=math.nan,
            kv_usage=math.nan,
            load=math.nan,
            timeline_s=timeline_s,
            timeline_busy=np.minimum(busy / pool.instances, 1.0),
            held=_held(str(number), own, system),
        )
        found.append(
            PoolUse(
                gpu=pool.instance.spec.gpu.name,
                first=first,
                use=use,
                requests=int(served.sum()),
                query_tokens=sum(engine.scheduler.query_tokens for engine in own),
                hit_tokens=sum(engine.scheduler.hit_tokens for engine in own),
            )
        )
        first += pool.instances
    return tuple(found)


def _degree(plan: Plan, role: str) -> int:
    prefill, decode = plan.degrees
    return {"prefill": prefill, "decode": decode}.get(role, plan.spec.num_gpus)


def _cache_use(system: ServingSystem, table: Table) -> CacheUse:
    prefill_engines = system.prefill_engines
    instances = np.unique(table["prefill_instance"]).astype(int).tolist()
    use = CacheUse(
        query_tokens=sum(engine.scheduler.query_tokens for engine in prefill_engines),
        hit_tokens=sum(engine.scheduler.hit_tokens for engine in prefill_engines),
        evicted_blocks=sum(engine.pool.evicted_blocks for engine in prefill_engines),
        blocks_per_instance=prefill_engines[0].settings.num_blocks,
        preemptions=sum(engine.scheduler.preemptions for engine in system.engines()),
        active_instances=len(instances),
        active_racks=len({system.prefill_places[instance].rack for instance in instances}),
    )
    return use if system.tiers is None else with_tiers(use, system.tiers, system.clock.now)


def _block_checks(system: ServingSystem) -> list[Check]:
    """Each pool's own books (free + cached + in use = its size); once everyone is gone nothing is in use, unless
    clients have given up: a run does not wait for the steps and loads of their requests."""
    engines = system.engines()
    total = sum(engine.settings.num_blocks for engine in engines)
    for engine in engines:
        engine.pool.check_integrity()
    if system.counts.in_flight or system.gave_up:
        return []
    free = sum(engine.pool.num_free for engine in engines)
    return [exact("blocks free once all requests are gone = pool size, over all instances", total, free)]


def _tier_checks(system: ServingSystem, table: Table) -> list[Check]:
    is_over = not (system.counts.in_flight or system.gave_up)
    return tier_checks(system.tiers, table) if system.tiers is not None and is_over else []


def _detail_checks(system: ServingSystem, detail: Detail | None, table: Table) -> list[Check]:
    if detail is None:
        return []
    busy_s = sum(log.busy_s for log in system.logs_by_role().values())
    is_whole = not (system.counts.in_flight or system.gave_up)
    held_block_s = sum(engine.held_so_far_block_s() for engine in system.engines())
    return detail_checks(detail, busy_s, held_block_s, float(table["output_tokens"].sum()) if is_whole else None)


def _tier_notes(system: ServingSystem) -> list[str]:
    return [] if system.tiers is None else tier_notes(system.tiers, system.plan.config)
