"""From a system that has run to the result that the reports read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.record.detail import Detail, DraftUse, InstanceFacts
from kvsim.record.fleet import FleetUse
from kvsim.record.percentiles import distribution
from kvsim.record.result import AdapterUse, CacheUse, Check, Held, PoolUse, RoleUse, SystemResult, Table
from kvsim.record.windows import measured_alike
from kvsim.sim.ended import Ended, RoleEnd
from kvsim.sim.engine.drafting import DraftCounts
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.speculative import SpeculativeScheduler
from kvsim.sim.log.conservation import detail_checks, exact, request_checks
from kvsim.sim.log.requests import columns_of
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.tiers.use import tier_checks, tier_notes, tier_transfers, with_tiers
from kvsim.workload.workload import Workload


def outcome(
    system: ServingSystem,
    *,
    warmup_requests: int,
    unsteady_factor: float,
    name: str | None = None,
) -> SystemResult:
    """The result of a run, measured over a window of its own: ``measured_alike`` gives several the same.

    ``name``: of the result, where that is not the system's.
    Loads of roles are not known yet. ITL is that of the requests which count where the run was told of
    ``warmup_requests`` too, else there is none.
    """
    workload = system.workload
    assert workload is not None, "a run has an end, and a result, where its requests are known"
    counts_itl = warmup_requests == system.warmup_requests
    made = result_of(ended(system), workload, warmup_requests, name or system.name, counts_itl=counts_itl)
    return made if unsteady_factor == 0.0 else measured_alike([made], unsteady_factor, {})[0]


def result_of(
    end: Ended, workload: Workload, warmup_requests: int, name: str, *, counts_itl: bool = True
) -> SystemResult:
    """The result of what a run of ``workload`` has left, as :func:`outcome` has it."""
    table = columns_of(end.rows)
    measured = table["request_id"] >= warmup_requests
    itl = next(role.steps.itl for role in reversed(end.roles))
    result = SystemResult(
        name=name,
        arrived=end.arrived,
        completed=end.completed,
        failed=end.failed,
        in_flight=end.counts.in_flight,
        table=table,
        measured=measured,
        window_s=(0.0, end.end_s),
        itl=itl.distribution() if counts_itl else distribution(np.zeros(0)),
        roles=tuple(_role_use(role, end) for role in end.roles),
        cache=end.cache,
        transfer=end.transfer,
        checks=(*request_checks(table, end.counts), *end.checks),
        end_s=end.end_s,
        sim_cpu_s=end.sim_cpu_s,
        events=end.events,
        steady=False,
        steady_why="",
        incomplete=end.incomplete,
        notes=end.notes,
        marks_s=end.marks_s[:-1],
        first_measured_s=_first_measured_s(workload, table, measured, warmup_requests),
        failed_arrival_s=end.failed_arrival_s,
        is_closed=workload.holds_back,
        drafts=end.drafts,
        adapters=end.adapters,
        detail=end.detail,
        fleet=end.fleet,
    )
    return measured_alike([result], 0.0, {})[0]


def ended(system: ServingSystem, fleet: FleetUse | None = None) -> Ended:
    """What a system has left after its run. ``fleet``: what became of its instances, where they come and go or clients
    give up.
    """
    table, counts, end_s = system.requests.table(), system.counts, system.clock.now
    logs, engines = system.logs_by_role(), system.engines_by_role()
    for log in logs.values():
        log.flush()
    detail, tiers = _detail(system), system.tiers
    cache = _cache_use(system, table)
    return Ended(
        rows=system.requests.rows(),
        arrived=counts.arrived,
        completed=counts.completed,
        failed=counts.failed,
        gave_up=system.gave_up,
        population_s=counts.population_s,
        failed_s=counts.failed_s,
        failed_arrival_s=np.array(system.failed_arrival_s),
        end_s=end_s,
        sim_cpu_s=system.sim_cpu_s,
        events=system.clock.num_events,
        incomplete=system.incomplete,
        marks_s=np.array([mark.time_s for mark in system.marks]),
        roles=tuple(_role_end(role, own, system, table) for role, own in engines.items()),
        cache=cache,
        tier_transfers=() if tiers is None else tier_transfers(tiers),
        transfer=system.transfer_use(end_s),
        checks=(
            *_block_checks(system),
            *system.byte_checks(),
            *_tier_checks(system, table),
            *_detail_checks(system, detail, table),
        ),
        notes=(*system.notes, *tier_notes(cache, system.plan.config)),
        after_failed=system.after_failed,
        drafts=_drafts_of(system.engines()),
        adapters=_adapters_of(system.engines()),
        detail=detail,
        fleet=fleet,
    )


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


def _role_end(role: Role, engines: Sequence[Engine], system: ServingSystem, table: Table) -> RoleEnd:
    pools = _pool_uses(engines, system, table) if role == "colocated" else ()
    return RoleEnd(
        role=role,
        instances=len(engines),
        gpus=sum(pool.use.gpus for pool in pools) if pools else len(engines) * system.gpus_of(role),
        blocks=sum(engine.settings.num_blocks for engine in engines),
        steps=system.logs_by_role()[role].totals(),
        held_block_s=np.array([mark.held_block_s[role] for mark in system.marks]),
        pools=pools,
    )


def _role_use(role: RoleEnd, end: Ended) -> RoleUse:
    """What depends on the window is still to be had."""
    timeline_s, busy = role.steps.timeline(end.end_s)
    return RoleUse(
        role=role.role,
        instances=role.instances,
        gpus=role.gpus,
        busy=math.nan,
        kv_usage=math.nan,
        load=math.nan,
        timeline_s=timeline_s,
        timeline_busy=np.minimum(busy / role.instances, 1.0),
        held=Held(end.marks_s, role.held_block_s, role.blocks),
        pools=role.pools,
    )


def _held(key: str, engines: Sequence[Engine], system: ServingSystem) -> Held:
    """``key``: what marks call these engines."""
    return Held(
        np.array([mark.time_s for mark in system.marks]),
        np.array([mark.held_block_s[key] for mark in system.marks]),
        sum(engine.settings.num_blocks for engine in engines),
    )


def _pool_uses(engines: Sequence[Engine], system: ServingSystem, table: Table) -> tuple[PoolUse, ...]:
    found = []
    end_s = system.clock.now
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
    some were taken off their engines: a run does not wait for the steps and loads of those."""
    engines = system.engines()
    total = sum(engine.settings.num_blocks for engine in engines)
    for engine in engines:
        engine.pool.check_integrity()
    if system.counts.in_flight or system.withdrawn:
        return []
    free = sum(engine.pool.num_free for engine in engines)
    return [exact("blocks free once all requests are gone = pool size, over all instances", total, free)]


def _tier_checks(system: ServingSystem, table: Table) -> list[Check]:
    is_over = not (system.counts.in_flight or system.withdrawn)
    return tier_checks(system.tiers, table) if system.tiers is not None and is_over else []


def _detail_checks(system: ServingSystem, detail: Detail | None, table: Table) -> list[Check]:
    if detail is None:
        return []
    busy_s = sum(log.busy_s for log in system.logs_by_role().values())
    is_whole = not (system.counts.in_flight or system.withdrawn)
    held_block_s = sum(engine.held_so_far_block_s() for engine in system.engines())
    return detail_checks(detail, busy_s, held_block_s, float(table["output_tokens"].sum()) if is_whole else None)
