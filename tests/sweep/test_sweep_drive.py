"""Runs are handed out, end in any order, die with their worker, and are repeated."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Lock

import pytest
from toy_sweep import Toy, done, plan_of

from kvsim.errors import KvsimError
from kvsim.sweep.drive import Shard, State, drive
from kvsim.sweep.executors import Gone, workers_of
from kvsim.sweep.finished import rows_in
from kvsim.sweep.perform import perform
from kvsim.sweep.plan import Plan
from kvsim.sweep.table import Table
from kvsim.sweep.tasks import Done, Task, task_of

KEYS = "keys: {rate: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}\nreplications: 3\n"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, KEYS)


def driven(plan: Plan, folder: Path, toy: Toy, shard: Shard = Shard(), *, retries: bool = False) -> State:  # noqa: B008
    with toy, Table(folder, plan).opened() as table:
        return drive(plan, table, toy, shard, lambda _: None, retries=retries)


def test_every_run_is_performed_once_whatever_their_order(plan: Plan, tmp_path: Path) -> None:
    seen: list[int] = []

    def slowly(task: Task) -> Done:
        time.sleep(random.random() / 500)
        seen.append(task.run.number)
        return done(task)

    state = driven(plan, tmp_path, Toy(4, slowly))
    assert sorted(seen) == list(range(30)) == [row["run"] for row in rows_in(tmp_path)]
    assert (state.total, state.done, state.failed, state.cpu_s) == (30, 30, 0, 15.0)
    again = driven(plan, tmp_path, Toy(4, slowly))
    assert len(seen) == 30 and (again.done, again.cpu_s) == (30, 0.0)


def test_shards_share_the_runs(plan: Plan, tmp_path: Path) -> None:
    states = [driven(plan, tmp_path, Toy(2, done), Shard(index, 4)) for index in range(4)]
    assert [state.total for state in states] == [8, 8, 7, 7]
    assert len(list(rows_in(tmp_path))) == 30


def test_a_run_that_dies_by_chance_is_repeated(plan: Plan, tmp_path: Path) -> None:
    died: Counter[int] = Counter()

    def perform_unless(task: Task) -> Done:
        if task.run.number in (0, 7, 8, 29) and died[task.run.number] < 2:
            died[task.run.number] += 1
            raise EOFError
        return done(task)

    assert driven(plan, tmp_path, Toy(3, perform_unless)).failed == 0
    assert [row["run"] for row in rows_in(tmp_path)] == list(range(30))


def test_a_run_that_kills_its_worker_is_found_alone_and_has_a_row(plan: Plan, tmp_path: Path) -> None:
    under_way: set[int] = set()
    beside: list[int] = []
    lock = Lock()

    def poisonous(task: Task) -> Done:
        number = task.run.number
        with lock:
            under_way.add(number)
        time.sleep(0.002)
        try:
            if number == 11:
                beside.append(len(under_way))
                raise EOFError
            return done(task)
        finally:
            with lock:
                under_way.remove(number)

    state = driven(plan, tmp_path, Toy(3, poisonous))
    errors = {row["run"]: row["error"] for row in rows_in(tmp_path) if row["error"] is not None}
    assert (state.done, state.failed, list(errors)) == (30, 1, [11])
    assert errors[11].startswith("its worker was killed, for want of memory perhaps")
    assert len(beside) == 3 and beside[1:] == [1, 1]
    assert driven(plan, tmp_path, Toy(3, done)).failed == 1
    assert driven(plan, tmp_path, Toy(3, done), retries=True).failed == 0
    assert all(row["error"] is None for row in rows_in(tmp_path))


def test_workers_of_another_kvsim_end_the_sweep_and_lose_nothing(plan: Plan, tmp_path: Path) -> None:
    def refuses(task: Task) -> Done:
        found = done(task)
        return replace(found, line="", refused="host: no") if task.run.number == 9 else found

    with pytest.raises(KvsimError, match="host: no"):
        driven(plan, tmp_path, Toy(1, refuses))
    kept = [row["run"] for row in rows_in(tmp_path)]
    assert set(range(9)) <= set(kept) and 9 not in kept


def test_workers_that_are_gone_are_told_from_runs_that_fail(plan: Plan, tmp_path: Path) -> None:
    def gone(task: Task) -> Done:
        raise CancelledError

    with pytest.raises(Gone):
        driven(plan, tmp_path, Toy(1, gone))

    class Dead(Toy):
        def is_death(self, error: BaseException) -> bool:
            raise Gone("the node is gone")

    def dies(task: Task) -> Done:
        if task.run.number > 3:
            raise EOFError
        return done(task)

    with pytest.raises(Gone, match="the node is gone"):
        driven(plan, tmp_path, Dead(1, dies))
    assert [row["run"] for row in rows_in(tmp_path)] == [0, 1, 2, 3]

    def cannot_begin(task: Task) -> Done:
        raise ModuleNotFoundError("No module named 'kvsim'")

    with pytest.raises(KvsimError, match="a worker cannot begin: ModuleNotFoundError: No module named 'kvsim'"):
        driven(plan, tmp_path, Toy(1, cannot_begin))


def test_a_worker_has_the_kvsim_and_the_files_that_the_sweep_was_started_with(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n")
    plan = plan_of(tmp_path, "keys: {trace: [t.csv]}\n")
    task = task_of(plan.sweep, plan.run(0))
    assert "the worker has kvsim" in perform(replace(task, identity="kvsim 99")).refused
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,1,1\n")
    assert f"{trace}: is another file here" in perform(task).refused
    trace.unlink()
    assert f"{trace}: no such file; a worker reads it from the same place" in perform(task).refused


@pytest.mark.parametrize("address", ["127.0.0.1", "tcp://", "nosuch", ":0"])
def test_addresses_that_are_none(address: str) -> None:
    from kvsim.sweep.executors import _ensure_answers

    with pytest.raises(KvsimError, match=r"--address"):
        _ensure_answers(address)


def test_an_executor_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(KvsimError, match=r"--executor ray: .*; pip install 'kvsim\[ray\]'"):
        workers_of("ray", None, 2)
