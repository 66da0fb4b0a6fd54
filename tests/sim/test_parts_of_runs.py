"""A run of parts that share nothing is the union of theirs: the same bytes on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from builders import Row, plan, workload

from kvsim.config import load_config
from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.cells import cell_seed
from kvsim.plan.plan import Plan, make_plan, unified_plan
from kvsim.record.result import SystemResult
from kvsim.sim import executor as executor_module
from kvsim.sim import run as run_module
from kvsim.sim.executor import Processes, Serial, whole
from kvsim.sim.parts import parts_of
from kvsim.sim.run import SYSTEMS, Case, Patience, end, result, run
from kvsim.workload.graph import RequestGraph
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.workload import Workload

RACKS = ("cluster.simulate_racks=3", "cluster.simulate_gpus_per_rack=16", "cluster.network.jitter_cv=0.3")


@cache
def chats(num_requests: int = 400) -> Workload:
    return chat(load_config().config.pd_trace, num_requests, 40.0, 1)


@cache
def cluster(*sets: str) -> Plan:
    return make_plan(load_config(sets=(*RACKS, *sets)).config)


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two results differ, in any bit."""
    if is_dataclass(one):
        for field in fields(one):
            if field.name != "sim_cpu_s":
                yield from differences(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            yield from differences(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif isinstance(one, np.ndarray):
        if one.shape != other.shape or one.tobytes() != other.tobytes():
            yield where
    elif one != other and not (one != one and other != other):
        yield where


def broken(found: SystemResult) -> list[str]:
    return [check.name for check in found.checks if not check.ok]


TIERS = ("pd_separation.tiers=[dram,eic,ssd]", "cluster.ssd_scope=rack", "engine.num_gpu_blocks_override=900")


@pytest.mark.parametrize("tiers", [(), TIERS], ids=["hbm", "tiers"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_cell_is_a_run_of_its_own(system: str, tiers: tuple[str, ...]) -> None:
    """Against a cluster of one rack, given by hand what a gateway deals to the second cell."""
    served, warmup = chats(), 50
    merged = run(
        Case(system, system, cluster("routing.cells=rack", *tiers), served, 3, warmup, keeps_detail=True)
    ).system
    sessions = list(dict.fromkeys(served.session_id.tolist()))
    rows = np.flatnonzero([sessions.index(session) % 3 == 1 for session in served.session_id.tolist()])
    one_rack = make_plan(
        load_config(sets=(*RACKS, *tiers, "cluster.simulate_racks=1", "load.warm_caches=false")).config
    )
    own = served.taken(rows, served.arrival_s[rows])
    cold = cluster("routing.cells=rack", "load.warm_caches=false", *tiers)
    alone = run(Case(system, system, one_rack, own, cell_seed(3, 1))).system
    among = run(Case(system, system, cold, served, 3)).system
    prefills, decodes = (1, 3) if system == "pd" else (4, 4)
    mine = np.isin(among.table["request_id"], rows)
    moved = {"request_id": rows[alone.table["request_id"].astype(int)]}
    moved |= {"prefill_instance": alone.table["prefill_instance"] + prefills}
    moved |= {"decode_instance": alone.table["decode_instance"] + decodes}
    for name, column in alone.table.items():
        assert np.array_equal(among.table[name][mine], moved.get(name, column)), name
    assert not broken(merged) and merged.completed == merged.arrived == len(served)
    assert merged.measured.sum() == len(served) - warmup
    assert (np.diff(merged.table["finish_s"]) >= 0).all() and sorted(merged.table["request_id"]) == list(
        range(len(served))
    )
    assert merged.notes[0].startswith("3 cells of 16 GPUs that share nothing: ")
    assert merged.marks_s[0] == served.arrival_s[0] and merged.marks_s[-1] == served.arrival_s[-1]


@pytest.mark.parametrize("tiers", [(), TIERS], ids=["hbm", "tiers"])
def test_what_a_pd_run_keeps_beside_its_requests_stays_within_cells(tiers: tuple[str, ...]) -> None:
    found = run(Case("pd", "pd", cluster("routing.cells=rack", *tiers), chats(), 3, keeps_detail=True)).system
    detail = found.detail
    assert detail is not None and not broken(found)
    racks = np.array([facts.rack for facts in detail.instances])
    assert [facts.role for facts in detail.instances] == ["prefill"] * 3 + ["decode"] * 9
    assert [facts.number for facts in detail.instances] == [*range(3), *range(9)]
    source, target = (detail.transfers[end].astype(int) for end in ("source", "target"))
    assert len(source) and np.array_equal(racks[source], racks[target])
    by_request = dict(zip(found.table["request_id"], found.table["prefill_instance"].astype(int), strict=True))
    steps = detail.steps["instance"][detail.chunks["step"].astype(int)].astype(int)
    assert np.array_equal(racks[steps], racks[[by_request[request] for request in detail.chunks["request_id"]]])
    assert (np.diff(detail.steps["end_s"]) >= 0).all()
    loaded = np.bincount(detail.served["request_id"].astype(int), detail.served["tokens"], len(chats()))
    order = np.argsort(found.table["request_id"])
    assert np.array_equal(loaded, found.table["loaded_tokens"][order])
    if tiers:
        assert sum(tier.loaded_tokens for tier in found.cache.tiers) == loaded.sum() > 0
        assert [tier.tiers for tier in found.cache.tiers] == [3, 3, 3], "one prefill instance a rack"


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_same_bytes_on_processes(monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    monkeypatch.setattr(executor_module, "_WORTH_S", -1.0)
    made = cluster("routing.cells=rack", *TIERS)
    cases = [Case(system, system, made, chats(), 3, 50, keeps_detail=True) for system in SYSTEMS]
    here = whole(Serial().run(cases))
    with Processes(jobs) as executor:
        there = whole(executor.run(cases))
        assert executor.cpu_s > 0
    assert [list(differences(*pair)) for pair in zip(here, there, strict=True)] == [[], []]


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_cell_is_the_run_without_any(system: str) -> None:
    cells, none = (Case(system, system, cluster(f"routing.cells={cells}"), chats(), 3, 50) for cells in (1, "null"))
    assert parts_of(cells) is None and not list(differences(run(cells).system, run(none).system))


def in_turn(*sets: str, instances: int = 130, **changes: Any) -> Case:
    sets = ("routing.prefill=round_robin", "engine.num_gpu_blocks_override=400", *sets)
    made = unified_plan(load_config(sets=sets).config, instances)
    return replace(Case("unified", "unified", made, chats(1500), 3, 100, keeps_detail=True), **changes)


SUMS = ("busy", "kv_usage", "timeline_busy", "block_s", "levels", "found", "expected", "mean")
"""What is added up over instances: the order of the additions shows in the last digits."""


@pytest.mark.parametrize("drains", [True, False])
def test_instances_that_take_turns_are_run_apart_exactly(drains: bool) -> None:
    """Also preempted ones, and requests that fit nowhere."""
    case = in_turn(drains=drains)
    one, several = result(case, end(case, lambda *_: None)).system, run(case).system
    parts = parts_of(case)
    assert parts is not None and len(parts) == 2 and one.cache.preemptions > 0 and one.failed > 0
    assert not broken(several) and several.itl.p99 == one.itl.p99
    assert several.itl.mean == pytest.approx(one.itl.mean, rel=1e-12)
    for role, other in zip(several.roles, one.roles, strict=True):
        assert (role.busy, role.kv_usage) == pytest.approx((other.busy, other.kv_usage), rel=1e-9)
        assert role.timeline_busy == pytest.approx(other.timeline_busy, rel=1e-9, abs=1e-9)
    found = {place for place in differences(one, several) if place.rpartition(".")[2] not in SUMS}
    assert found <= {".events", ".detail.gaps.instance", ".detail.gaps.interval_s"}


def test_where_instances_do_not_run_as_if_alone_nothing_is_cut() -> None:
    assert parts_of(in_turn()) is not None
    turns = replace(chats(1500), graph=RequestGraph.turns(np.arange(-1, 1499), np.zeros(1500)))
    others = [
        in_turn("routing.prefill=least_loaded"),
        in_turn("engine.data_parallel_size=2"),
        in_turn(instances=127),
        in_turn(workload=turns),
        in_turn(patience=Patience(1.0, 0)),
    ]
    assert [parts_of(case) for case in others] == [None] * len(others)


def small(rows: list[Row], cells: int, **changes: Any) -> Case:
    made = replace(plan(4, 4, block_size=4, num_blocks=200), cells=cells)
    return replace(Case("unified", "unified", made, workload(rows), 3), **changes)


def test_a_cell_that_nobody_comes_to() -> None:
    found = run(small([Row(1.0, 9, 3), Row(2.0, 9, 3)], 4)).system
    assert (found.completed, found.cache.active_instances, found.roles[0].instances) == (2, 2, 8) and not broken(found)
    assert run(small([], 4)).system.arrived == 0


def test_clients_that_give_up_and_the_patient_first_ones() -> None:
    rows = [Row(0.5 * i, 40, 9) for i in range(12)]
    hurried = run(small(rows, 2, patience=Patience(1e-9, 5)))
    assert (hurried.gave_up, hurried.system.completed, hurried.system.failed) == (7, 5, 7)
    assert sorted(hurried.system.table["request_id"]) == list(range(5)) and not broken(hurried.system)


def test_what_clients_did_is_that_of_all_cells() -> None:
    rows = [Row(0.5 * i, 40, 9) for i in range(12)]
    fleet = run(small(rows, 2, patience=Patience(2.0, retries=1, backoff_s=1.0))).system.fleet
    assert fleet is not None and (fleet.arrived, fleet.timed_out, fleet.retried, fleet.gave_up) == (12, 24, 12, 12)
    assert fleet.again_s.tolist() == [0.5 * i + 3 for i in range(12)]
    assert fleet.failed_arrival_s.tolist() == [0.5 * i for i in range(12)]
    assert fleet.failed_s.tolist() == [0.5 * i + 5 for i in range(12)]
    assert [(role.instances, role.paid_gpus) for role in fleet.roles] == [(8, (8, 8))]


@pytest.mark.parametrize("system", SYSTEMS)
def test_turns_wait_for_their_answers_in_one_cell(system: str) -> None:
    rows = [Row(0.1 * i, 40, 9, session_id=i % 5) for i in range(40)]
    waits = RequestGraph.turns(np.array([i - 5 if i >= 5 else -1 for i in range(40)]), np.full(40, 0.25))
    served = replace(workload(rows), graph=waits)
    found = run(small(rows, 2, system=system, workload=served, warmup_requests=5)).system
    assert found.completed == 40 and not broken(found)
    order = np.argsort(found.table["request_id"])
    arrival_s, finish_s = found.table["arrival_s"][order], found.table["finish_s"][order]
    assert arrival_s[5:] == pytest.approx(finish_s[:-5] + 0.25)
    assert found.marks_s[0] == arrival_s.min() and found.marks_s[-1] == arrival_s.max()
    held_s = float((finish_s - arrival_s).sum())
    assert found.roles[0].held is not None and 0 < found.roles[0].held.block_s[-1] < 200 * held_s


def test_what_cells_cannot_share_is_refused() -> None:
    case = small([Row(1.0, 9, 3)], 2)
    (refused,) = Serial().run([replace(case, workload=replace(case.workload, max_concurrency=4))])
    assert isinstance(refused.exception(), ConfigError) and "routing.cells makes 2 cells" in str(refused.exception())
    limits = case.plan.config.limits.model_copy(update={"cpu_s": 1e-9})
    hurried = replace(case.plan, config=case.plan.config.model_copy(update={"limits": limits}))
    (refused,) = Serial().run([replace(case, plan=hurried)])
    assert isinstance(refused.exception(), CapacityError) and "limits.cpu_s" in str(refused.exception())


@pytest.mark.sources
def test_of_cells_that_were_interrupted_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_module.end
    ends = iter((False, True))
    monkeypatch.setattr(run_module, "end", lambda case, update: replace(made(case, update), incomplete=next(ends)))
    first, second = Serial().run([small([Row(1.0, 9, 3), Row(2.0, 9, 3)], 2)] * 2)
    assert first.cancelled() and second.cancelled()
    with pytest.raises(StopIteration):
        next(ends)


def test_progress_goes_on_from_cell_to_cell() -> None:
    told: list[int] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing."""

        def update(self, completed: int, now_s: float) -> None:
            told.append(completed)

    rows = [Row(0.01 * i, 4, 1) for i in range(4000)]
    run(small(rows, 2), lambda _label, _total: Bar())
    assert told == [1000, 2000, 3000, 4000]
