"""The one door into simulated time: cases travel, and nothing else opens it."""

from __future__ import annotations

import gc
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import Row, colocated, plan, workload
from step_tables import table_times

import kvsim
from kvsim.sim.engine.engine import Engine
from kvsim.sim.executor import Serial, whole
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.run import SYSTEMS, Case, run

ROWS = [Row(0.5 * i, 40 + 7 * i, 3 + i, ((0, 32), (-1 - i, 8 + 7 * i))) for i in range(12)]


def case(system: str, **changes: object) -> Case:
    found = plan(2, 2, block_size=4, num_blocks=200)
    served = found if system == "pd" else colocated(found)
    return replace(Case(system, system, served, workload(ROWS), 3, warmup_requests=2), **changes)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_case_that_was_sent_gives_the_same_result(system: str, tables: bool) -> None:
    here = case(system)
    if tables:
        here = replace(here, plan=here.plan.with_instances(step_time=table_times(sizes=(1, 2, 4))))
    there = pickle.loads(pickle.dumps(here))
    assert there.plan.with_instances(step_time=here.plan.step_time) == here.plan
    one, other = run(here).system, pickle.loads(pickle.dumps(run(there))).system
    assert one.completed == len(ROWS) and one.measured.sum() == len(ROWS) - 2
    for name, column in one.table.items():
        assert np.array_equal(column, other.table[name]), name
    assert (one.itl, one.checks, one.events) == (other.itl, other.checks, other.events)


def test_what_a_case_asks_for() -> None:
    kept = run(case("unified", keeps_detail=True)).system.detail
    assert kept is not None and kept.steps["num_steps"].sum() > 0
    assert run(case("unified")).system.detail is None
    hurried = run(case("unified", patience=Patience(timeout_s=1e-9, patient_requests=4)))
    assert (hurried.gave_up, hurried.system.completed, hurried.system.failed) == (8, 4, 8)
    cut = run(case("pd", drains=False)).system
    assert cut.arrived == len(ROWS) - 1 and cut.in_flight > 0 and cut.end_s == ROWS[-1].arrival_s


def test_progress_is_told_the_label() -> None:
    told: list[tuple[str, int]] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            told.append(("end", 0))

        def update(self, completed: int, now_s: float) -> None:
            """Nothing."""

    def progress(label: str, total: int) -> Bar:
        told.append((label, total))
        return Bar()

    (found,) = whole(Serial(progress).run([case("unified")]))
    assert found.completed == len(ROWS)
    Serial(progress).run([case("unified", label="pilot")])
    assert told == [("unified", 12), ("end", 0), ("pilot", 12), ("end", 0)]


def test_nothing_else_builds_a_system() -> None:
    package = Path(kvsim.__file__).parent
    builds = re.compile(r"\b(UnifiedSystem|PdSystem)\((?!ServingSystem|UnifiedSystem)[a-z]")
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if builds.search(path.read_text("utf-8"))}
    assert found == {"sim/run.py"}


def engines_alive() -> int:
    gc.collect()
    return sum(isinstance(found, Engine) for found in gc.get_objects())


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("drains", [True, False])
def test_a_run_leaves_nothing_behind_even_if_it_ends_with_requests_under_way(system: str, drains: bool) -> None:
    """Some objects are hidden from the collector where they are compiled: none of them may keep an engine alive."""
    before = engines_alive()
    late = [replace(row, output_tokens=200) for row in ROWS] + [Row(8.0, 20)]
    left = run(case(system, workload=workload(late), drains=drains)).system
    assert left.completed == (len(late) if drains else 0)
    assert engines_alive() <= before
