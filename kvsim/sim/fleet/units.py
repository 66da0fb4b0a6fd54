"""Instances that come and go as one, and how many there are over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvsim.record.fleet import RoleFleet
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import Role
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.slowed import SlowedStepTime

UP: Final = 0
DRAINING: Final = 1
"""Takes no new requests, and goes when it has none left."""
DOWN: Final = 2
"""There, and gone: failed, or restarting."""
STARTING: Final = 3
OFF: Final = 4
"""Not there: nobody pays for it."""


class Unit:
    """An instance: one engine, or the data-parallel engines of one that take their steps together."""

    __slots__ = (
        "_own_times",
        "comes_back",
        "engines",
        "epoch",
        "gpus",
        "is_known",
        "number",
        "role",
        "slowdowns",
        "status",
        "then",
    )

    def __init__(self, role: Role, number: int, engines: list[Engine], gpus: int) -> None:
        """``gpus``: of all its engines."""
        self.role, self.number, self.engines, self.gpus = role, number, engines, gpus
        self.status = UP
        self.is_known = True
        """Whether the router knows of its status."""
        self.comes_back = False
        """Whether it is going to be up again, while it is not."""
        self.epoch = 0
        """Changes of its status so far: what was planned for an earlier one does not happen."""
        self.slowdowns: list[float] = []
        """Factors that its steps take longer by, all of them together."""
        self.then: Callable[[Unit], None] | None = None
        """What is to happen once it has drained."""
        self._own_times: list[StepTime] = [engine.step_time for engine in engines]

    @property
    def name(self) -> str:
        return f"{self.role} {self.engines[0].instance}"

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of any request is left on it."""
        return all(engine.is_quiet for engine in self.engines)

    def slow(self, before: float, after: float) -> None:
        """Let its steps take ``after`` times as long as they do by themselves, not ``before`` times any more."""
        for engine, own in zip(self.engines, self._own_times, strict=True):
            engine.take_times(own if after == 1.0 else SlowedStepTime(own, after), after / before)


class RoleUnits:
    """Instances of one role over time."""

    def __init__(self, role: Role, units: list[Unit]) -> None:
        self.role, self.units = role, units
        self.times_s: list[float] = []
        self.paid_gpus: list[int] = []
        self.serving: list[int] = []
        self.paid: list[int] = []
        self.starting: list[int] = []
        self.note(0.0)

    def count(self, status: int) -> int:
        """Instances of that status."""
        return sum([unit.status == status for unit in self.units])

    def note(self, now_s: float) -> None:
        """Take note of how many there are, after a change."""
        now = (self.count(UP), len(self.units) - self.count(OFF), self.count(STARTING))
        gpus = sum([unit.gpus for unit in self.units if unit.status != OFF])
        if self.times_s and self.times_s[-1] == now_s:
            self.serving[-1], self.paid[-1], self.starting[-1] = now
            self.paid_gpus[-1] = gpus
        elif not self.times_s or (*now, gpus) != self._latest():
            self.times_s.append(now_s)
            self.serving.append(now[0])
            self.paid.append(now[1])
            self.starting.append(now[2])
            self.paid_gpus.append(gpus)

    def _latest(self) -> tuple[int, int, int, int]:
        return self.serving[-1], self.paid[-1], self.starting[-1], self.paid_gpus[-1]

    def use(self, end_s: float) -> RoleFleet:
        """What there was up to ``end_s``, the last time."""
        columns = [list(column) for column in (self.serving, self.paid, self.paid_gpus, self.starting)]
        times_s = list(self.times_s)
        if times_s[-1] < end_s:
            times_s.append(end_s)
            for column in columns:
                column.append(column[-1])
        serving, paid, paid_gpus, starting = columns
        return RoleFleet(
            self.role,
            len(self.units),
            tuple(times_s),
            tuple(serving),
            tuple(paid),
            tuple(paid_gpus),
            tuple(starting),
        )
