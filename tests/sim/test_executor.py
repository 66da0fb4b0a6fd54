"""Cases side by side: the same results on any number of processes, and what fails or is interrupted costs itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload

from kvsim.errors import CapacityError
from kvsim.sim import executor as executor_module
from kvsim.sim import tasks as tasks_module
from kvsim.sim.executor import Executor, Processes, Serial, whole
from kvsim.sim.run import Case, RunResult
from kvsim.sim.tasks import CaseTasks

ROWS = [Row(0.7 * i, 8 + i % 9, 4 + i % 7) for i in range(40)]
KNOWN = coefficients(w0_s=0.3, p1_s_per_token=0.05, b_s_per_token2=0.002)


def case(name: str, seed: int = 1, rows: list[Row] = ROWS) -> Case:
    return Case(name, name, plan(2, 1, times=KNOWN, block_size=4, num_blocks=60), workload(rows), seed)


def endless() -> Case:
    """Much longer than any test."""
    one = case("unified", rows=[Row(0.01 * i, 8, 40_000) for i in range(2_000)])
    settings = {"stepwise": True, "num_blocks": 10**7, "max_model_len": 50_000, "max_num_seqs": 1}
    return replace(one, plan=one.plan.with_settings("colocated", **settings))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two of them, for however little."""
    monkeypatch.setattr(executor_module, "_WORTH_S", -1.0)
    with Processes(2) as found:
        yield found


def tables(futures: list[Future[RunResult]]) -> list[dict[str, np.ndarray]]:
    return [future.result().system.table for future in futures]


def assert_equal(ours: list[dict[str, np.ndarray]], theirs: list[dict[str, np.ndarray]]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name, column in one.items():
            np.testing.assert_array_equal(column, other[name], err_msg=name)


@pytest.mark.sources
def test_processes_give_what_one_after_the_other_gives(processes: Processes) -> None:
    cases = [case(name, seed) for seed in range(3) for name in ("unified", "pd")]
    assert_equal(tables(processes.run(cases)), tables(Serial().run(cases)))
    assert processes.cpu_s > 0


@pytest.mark.sources
def test_a_case_that_fails_costs_itself(processes: Processes) -> None:
    refused = case("pd")
    limits = refused.plan.config.limits.model_copy(update={"cpu_s": 1e-9})
    refused = replace(
        refused, plan=replace(refused.plan, config=refused.plan.config.model_copy(update={"limits": limits}))
    )
    for where in (processes, Serial()):
        first, second, third = where.run([case("unified"), refused, case("pd")])
        assert isinstance(second.exception(), CapacityError) and "limits.cpu_s" in str(second.exception())
        assert_equal(tables([first, third]), tables(Serial().run([case("unified"), case("pd")])))
        with pytest.raises(CapacityError):
            whole([first, second, third])


@pytest.mark.sources
def test_a_little_is_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "_run", lambda *_: pytest.fail("processes for that"))
    with Processes(8) as found:
        assert_equal(
            tables(found.run([case("unified"), case("pd")])), tables(Serial().run([case("unified"), case("pd")]))
        )


@pytest.mark.sources
def test_no_more_at_a_time_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "_WORTH_S", -1.0)
    monkeypatch.setattr(tasks_module, "needed_bytes", lambda plan, workload: 3.0)
    one = case("pd")  # a plan looks for room itself
    for available_bytes, at_once in ((2.0, 1), (7.0, 2), (9.0, 3), (1e9, 4)):
        monkeypatch.setattr(executor_module.room, "available_bytes", lambda left=available_bytes: left)
        assert Processes(4)._at_once([CaseTasks(one)] * 6) == at_once


def interrupt_after(seconds: float) -> None:
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.mark.sources
def test_an_interrupt_ends_what_runs_and_begins_nothing_more(processes: Processes) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_after(3.0)
        started_s = time.monotonic()
        futures = processes.run([endless(), endless(), case("pd")])
        assert time.monotonic() - started_s < 30
    finally:
        signal.signal(signal.SIGINT, before)
    assert [future.cancelled() for future in futures] == [False, False, True]
    assert all(future.result().system.incomplete for future in futures[:2])
    with pytest.raises(KeyboardInterrupt):
        whole(futures)


@pytest.mark.sources
def test_a_process_that_is_killed_is_one_line(processes: Processes) -> None:
    def kill() -> None:
        os.kill(processes._workers()[0], signal.SIGKILL)

    threading.Timer(3.0, kill).start()
    futures = processes.run([endless(), endless()])
    assert {str(future.exception()) for future in futures} == {
        "unified: its process was killed, for want of memory perhaps; --jobs 1 needs the least"
    }
    again = processes.run([case("pd"), case("unified")])
    assert_equal(tables(again), tables(Serial().run([case("pd"), case("unified")])))


def test_one_after_the_other_an_interrupt_leaves_the_rest_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_after(0.5)
        serial: Executor = Serial()
        first, second = serial.run([endless(), case("pd")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert first.result().system.incomplete and second.cancelled()
