"""Driving a sweep: runs that have no row yet go to workers, and rows into the table as runs end."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field

from kvsim.errors import KvsimError
from kvsim.sweep.executors import Gone, Workers
from kvsim.sweep.plan import Plan, Run
from kvsim.sweep.table import Table
from kvsim.sweep.tasks import Done, Task, head_of, line_of, task_of

_POLL_S = 0.5
_LOOK_S = 2.0
"""How often workers are counted: they come and go."""
_DEATHS = 3
"""A run that has had its worker die so often, from the second time on with no other run beside it, is what kills it."""


@dataclass(frozen=True)
class Shard:
    """Every ``of``-th run, from ``index`` on."""

    index: int = 0
    of: int = 1

    def has(self, number: int) -> bool:
        return number % self.of == self.index


@dataclass
class State:
    """How far a sweep is."""

    total: int
    done: int = 0
    failed: int = 0
    slots: int = 0
    cpu_s: float = 0.0
    """What runs have taken by now, since this process began to drive them."""


@dataclass
class _Driver:
    plan: Plan
    table: Table
    workers: Workers
    state: State
    told: Callable[[State], None]
    running: dict[Future[Done], Task] = field(default_factory=dict)
    suspects: deque[Task] = field(default_factory=deque)
    """Tasks that may have killed a worker: they are run one at a time, to know which."""
    deaths: dict[int, int] = field(default_factory=dict)
    looked_s: float = -_LOOK_S

    def drive(self, runs: Iterator[Run]) -> None:
        waiting = (task_of(self.plan.sweep, run) for run in runs)
        self._look()
        while True:
            is_over = self._hand_out(waiting)
            if not self.running:
                if is_over:
                    return
                continue
            ended, _ = wait(self.running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            self._take([(self.running.pop(one), one) for one in ended])
            self._look()
            self.told(self.state)

    def _hand_out(self, waiting: Iterator[Task]) -> bool:
        """Whether nothing is left to be handed out."""
        while len(self.running) < self._most():
            task = self.suspects.popleft() if self.suspects else next(waiting, None)
            if task is None:
                return True
            self.running[self.workers.submit(task)] = task
        return False

    def _most(self) -> int:
        is_alone = self.suspects or any(task.run.number in self.deaths for task in self.running.values())
        return 1 if is_alone else self.workers.ahead * max(1, self.state.slots)

    def _take(self, ended: list[tuple[Task, Future[Done]]]) -> None:
        """Rows of all that has ended, in the table before anything else; then raise what ends the sweep."""
        kept, ends = [], []
        for task, future in ended:
            try:
                done = self._settled(task, future)
            except KvsimError as error:
                ends.append(error)
                continue
            if done is not None:
                kept.append(done)
        kept.sort(key=lambda done: done.run.number)
        self.table.append([done.line for done in kept], [_time(done) for done in kept])
        for done in kept:
            self.table.done[done.run.number] = 2 if done.has_error else 1
            self.state.done += 1
            self.state.failed += done.has_error
            self.state.cpu_s += done.cpu_s
        if ends:
            raise ends[0]

    def _settled(self, task: Task, future: Future[Done]) -> Done | None:
        """What came of it; ``None``: it is run again. Raises a ``KvsimError`` where nothing can come of any."""
        try:
            done = future.result()
        except CancelledError:
            raise Gone("the workers cannot be reached any more") from None
        except Exception as error:
            if not self.workers.is_death(error):
                raise KvsimError(f"a worker cannot begin: {type(error).__name__}: {error}") from error
        else:
            if done.refused:
                raise KvsimError(done.refused)
            return done
        number = task.run.number
        self.deaths[number] = self.deaths.get(number, 0) + 1
        if self.deaths[number] >= _DEATHS:
            return _killed(task)
        self.suspects.append(task)
        return None

    def _look(self) -> None:
        if time.monotonic() - self.looked_s >= _LOOK_S:
            self.looked_s, self.state.slots = time.monotonic(), self.workers.slots


def drive(
    plan: Plan, table: Table, workers: Workers, shard: Shard, told: Callable[[State], None], *, retries: bool = False
) -> State:
    """Perform every run of the shard that has no row in ``table``, or with ``retries`` one with an error.

    Raises a ``KvsimError`` where a worker may make no rows of this sweep or the table cannot be written, ``Gone`` where
    the workers are; what has a row by then keeps it.
    """
    numbers = [number for number in range(len(plan)) if shard.has(number)]
    missing = [number for number in numbers if table.done[number] == 0 or (retries and table.done[number] == 2)]
    kept = len(numbers) - len(missing)
    failed = sum(table.done[number] == 2 for number in numbers) if not retries else 0
    state = State(len(numbers), kept, failed)
    if missing:
        driver = _Driver(plan, table, workers, state, told)
        driver.drive(plan.run(number) for number in missing)
    return state


def _killed(task: Task) -> Done:
    why = "its worker was killed, for want of memory perhaps; fewer runs at a time need less"
    return Done(task.run, line_of(head_of(task.run) | {"error": why}), True, 0.0, "")


def _time(done: Done) -> str:
    return json.dumps({"run": done.run.number, "cpu_s": round(done.cpu_s, 4), "worker": done.worker})
