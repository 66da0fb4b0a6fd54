"""Data-parallel engines that share experts: their steps begin and end together, and who has no work computes, too.

Rules of vLLM's ``DPEngineCoreProc``: a wave of steps begins with the first request and goes on while any engine has
unfinished ones, which the engines ask each other after the first step and then every so many. An engine without work
takes part with a token of nobody's. Engines that schedule ahead know what the next step has when one begins, those
without work no less: who comes meanwhile waits for the one after it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from kvsim.sim.clock import Clock, MovableTimer
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.step import Step
from kvsim.steptime.curves.lockstep import LockstepStepTime


class Lockstep:
    """One group. Its engines are made with ``timer``, then put into ``engines``, in their order."""

    __slots__ = ("_clock", "_interval", "_is_running", "_steps", "_times", "engines", "timer")

    def __init__(
        self, clock: Clock, priority: int, place: int, step_time: LockstepStepTime, sync_interval: int
    ) -> None:
        """``priority`` and ``place``: of its steps' ends among all that happens at one instant. ``sync_interval``:
        steps after which engines tell each other whether they have unfinished requests."""
        self._clock, self._times, self._interval = clock, step_time, sync_interval
        self.timer = MovableTimer(clock, priority, place)
        self.engines: list[Engine] = []
        self._is_running = False
        self._steps = 0
        """Steps of the wave under way that have ended."""
        clock.process(self._run())

    def _run(self) -> Generator[Any, None, None]:
        """Serve for ever: run steps of all engines and book them, sleep when no engine has anything to run."""
        while True:
            steps = self._planned()
            if not self._is_running:
                yield self._sleep()
                continue
            yield self.timer.sleep_until(self._begin(steps))
            self._end(steps)

    def _planned(self) -> list[Step | None]:
        """What each engine runs next; a wave begins with the first step of any."""
        steps: list[Step | None] = []
        for engine in self.engines:
            step = engine.next_step(self._is_running)
            steps.append(step)
        if not self._is_running:
            for step in steps:
                if step is not None:
                    self._is_running = True
        return steps

    def _sleep(self) -> Any:
        for engine in self.engines:
            engine.rest()
        return self.timer.sleep()

    def _begin(self, steps: list[Step | None]) -> float:
        """Start a step of all; returns when it is to end."""
        own_s: list[float] = []
        tokens: list[int] = []
        for engine, step in zip(self.engines, steps, strict=True):
            if step is not None:
                own_s.append(engine.own_s(step))
                tokens.append(engine.tokens_of(step))
        times = self._times
        step_s = times.step_s(own_s, tokens) if tokens else times.idle_s()
        for engine, step in zip(self.engines, steps, strict=True):
            if step is None:
                engine.stand_by()
            else:
                engine.begin_together(step, step_s)
        return self._clock.now + step_s

    def _end(self, steps: list[Step | None]) -> None:
        for engine, step in zip(self.engines, steps, strict=True):
            if step is None:
                engine.stood_by()
            else:
                engine.end_together(step)
        self._steps += 1
        if self._steps == 1 or self._steps % self._interval == 0:
            self._is_running = False
            for engine in self.engines:
                if engine.scheduler.has_unfinished:
                    self._is_running = True
            if not self._is_running:
                self._steps = 0
