"""Cases side by side: one after the other here, or on processes of this machine, with the same results."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from kvsim import room
from kvsim._compiled import engine
from kvsim.errors import CapacityError
from kvsim.record.result import SystemResult
from kvsim.sim.clean_processes import begin_worker, clean_context, clean_start, end_server
from kvsim.sim.ended import Ended
from kvsim.sim.run import Case, ProgressLike, ProgressMaker, RunResult, end, quiet, run
from kvsim.sim.tasks import CaseTasks

_WORTH_S = 1.0
"""CPU time that running side by side has to save before processes are started: each takes a part of that to begin."""
_COMPILED = 3.0
"""How much faster compiled runs are than the sources, whose time is estimated."""
_POLL_S = 0.1
_LABEL = 8
"""Characters of a label that leave room for figures beside it."""
_PATIENCE_S = 10.0
"""After an interrupt: how long what runs may take to end between two events, and to tell what came of it."""


class Executor(Protocol):
    """Where cases are run."""

    cpu_s: float
    """CPU seconds that other processes than this one have taken for cases, so far."""

    def run(self, cases: Sequence[Case]) -> list[Future[RunResult]]:
        """All of them, in any order: a finished future each, in the order of ``cases``.

        A case that fails has its exception, and costs itself only. After an interrupt those that ran say that they are
        incomplete, and those that did not begin are cancelled.
        """


class Serial:
    """One case after the other, in this process."""

    def __init__(self, progress: ProgressMaker = quiet) -> None:
        self._progress = progress
        self.cpu_s = 0.0

    def run(self, cases: Sequence[Case]) -> list[Future[RunResult]]:
        """As :meth:`Executor.run`."""
        futures: list[Future[RunResult]] = [Future() for _ in cases]
        is_ended = False
        for case, future in zip(cases, futures, strict=True):
            if is_ended:
                future.cancel()
                continue
            try:
                found = run(case, self._progress)
            except KeyboardInterrupt:
                is_ended = True
                future.cancel()
            except BrokenPipeError:
                raise
            except Exception as error:
                future.set_exception(error)
            else:
                is_ended = found.system.incomplete
                future.set_result(found)
        return futures


class Processes:
    """Up to ``jobs`` cases at a time, each in a process; as many as memory has room for. A context manager.

    Few and small cases are run here, where they are done before a process would have begun.
    """

    def __init__(self, jobs: int, progress: ProgressMaker = quiet) -> None:
        self._jobs, self._progress = jobs, progress
        self._serial = Serial(progress)
        self._pool: ProcessPoolExecutor | None = None
        self._told: Any = None
        self._now_s = 0.0
        self.cpu_s = 0.0
        """CPU seconds that other processes have taken for cases, so far."""

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        if self._told is not None:
            end_server()

    def run(self, cases: Sequence[Case]) -> list[Future[RunResult]]:
        """As :meth:`Executor.run`."""
        if self._jobs < 2:
            return self._serial.run(cases)
        all_tasks = [CaseTasks(case) for case in cases]
        at_once = self._at_once(all_tasks)
        if at_once < 2:
            return self._serial.run(cases)
        labels = ", ".join(case.label or case.name for case in cases)
        label = labels if len(labels) <= _LABEL else f"{len(cases)} runs"
        with self._progress(label, sum(len(case.workload) for case in cases)) as bar:
            return self._run(all_tasks, at_once, bar)

    def _at_once(self, all_tasks: Sequence[CaseTasks]) -> int:
        """How many at a time; 1 where processes do not pay."""
        most = min(self._jobs, sum(own.tasks for own in all_tasks))
        if most < 2:
            return 1
        needed = sorted((own.needed_bytes for own in all_tasks for _ in range(own.tasks)), reverse=True)
        left = room.available_bytes()
        while most > 1 and sum(needed[:most]) > left:
            most -= 1
        times_s = [own.least_cpu_s for own in all_tasks for _ in range(own.tasks)]
        saved_s = min(sum(times_s) * (1 - 1 / most), sum(times_s) - max(times_s))
        if engine() == "compiled":
            saved_s /= _COMPILED
        return most if self._pool is not None or saved_s > _WORTH_S else 1

    def _run(self, all_tasks: Sequence[CaseTasks], at_once: int, bar: ProgressLike) -> list[Future[RunResult]]:
        tasks = [(own, number) for own in all_tasks for number in range(own.tasks)]
        running: dict[Future[tuple[RunResult | Ended, float]], int] = {}
        completed = [0] * len(tasks)
        begun, stop_s = 0, 0.0
        while running or (begun < len(tasks) and not stop_s):
            try:
                while len(running) < at_once and begun < len(tasks) and not stop_s:
                    own, number = tasks[begun]
                    if not own.future.done():
                        running[self._submitted(begun, own.task(number))] = begun
                    begun += 1
                done, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                self._show(bar, completed)
                if any(isinstance(one.exception(), BrokenProcessPool) for one in done):
                    # All that its processes ran fails with it; what comes next gets others.
                    done, self._pool = wait(running).done, None
                for one in done:
                    place = running.pop(one)
                    own, number = tasks[place]
                    self._settle(one, own, number)
                    completed[place] = own.requests(number)
                if stop_s and time.monotonic() > stop_s:
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                if stop_s:
                    self._kill()
                    break
                stop_s = time.monotonic() + _PATIENCE_S
                self._interrupt()
        for own in all_tasks:
            own.future.cancel()
        return [own.future for own in all_tasks]

    def _submitted(self, place: int, case: Case) -> Future[tuple[RunResult | Ended, float]]:
        if self._pool is None:
            context = clean_context("kvsim.sim.executor")
            self._told = context.SimpleQueue()
            self._pool = ProcessPoolExecutor(self._jobs, context, _begin, (self._told,))
        with clean_start():
            return self._pool.submit(_work, place, case)

    def _settle(self, one: Future[tuple[RunResult | Ended, float]], own: CaseTasks, number: int) -> None:
        error = one.exception()
        if isinstance(error, BrokenProcessPool):
            what = f"{own.case.label or own.case.name}: its process was killed, for want of memory perhaps"
            own.failed(CapacityError(f"{what}; --jobs 1 needs the least"))
        elif isinstance(error, KeyboardInterrupt):
            own.future.cancel()
        elif error is not None:
            own.failed(error)
        else:
            found, cpu_s = one.result()
            self.cpu_s += cpu_s
            own.done(number, found)

    def _show(self, bar: ProgressLike, completed: list[int]) -> None:
        while not self._told.empty():
            number, done, self._now_s = self._told.get()
            completed[number] = max(completed[number], done)
        bar.update(sum(completed), self._now_s)

    def _workers(self) -> list[int]:
        return list(self._pool._processes or ()) if self._pool is not None else []

    def _interrupt(self) -> None:
        """Ask what runs to end between two events."""
        for pid in self._workers():
            os.kill(pid, signal.SIGINT)

    def _kill(self) -> None:
        for pid in self._workers():
            os.kill(pid, signal.SIGKILL)


def whole(futures: Sequence[Future[RunResult]]) -> list[SystemResult]:
    """The results of cases that nobody looks at unless all are there; the first exception where one failed.

    Raises ``KeyboardInterrupt`` where they were interrupted, ``AssertionError`` where a law of conservation is broken.
    """
    if any(future.cancelled() for future in futures):
        raise KeyboardInterrupt
    found = []
    for future in futures:
        made = future.result()
        if made.system.incomplete:
            raise KeyboardInterrupt
        broken = [check.name for check in made.system.checks if not check.ok]
        if broken:
            raise AssertionError(f"{made.case.label or made.case.name}: broken conservation laws: {broken}")
        found.append(made.system)
    return found


_queue: Any = None
"""Where a worker tells how far it is."""


def _begin(told: Any) -> None:
    """What a worker does first."""
    global _queue
    _queue = told
    begin_worker()


class _Telling:
    """Progress of a case in a worker."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, completed: int, now_s: float) -> None:
        """To the parent."""
        _queue.put((self._number, completed, now_s))


def _work(place: int, case: Case) -> tuple[RunResult | Ended, float]:
    """In a worker: the result, or of a part what it has left, and what it took of CPU seconds."""
    started_s = time.process_time()
    telling = _Telling(place)
    found = run(case, lambda _label, _total: telling) if case.part is None else end(case, telling.update)
    return found, time.process_time() - started_s
