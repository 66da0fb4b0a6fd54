"""The one door into simulated time: a case, run, gives a result.

A case is everything that a simulation needs. It can be pickled, and gives the same result wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from kvsim.pickling import by_fields
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.sim.ended import Ended
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.gc_pause import gc_paused
from kvsim.sim.outcome import ended, result_of
from kvsim.sim.routing import PrefixIndex
from kvsim.sim.systems.fleet_of import look_after
from kvsim.sim.systems.given import GivenHeads, GivenPdSystem, GivenUnifiedSystem
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.run_part import WHOLE, RunPart
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

SystemName = Literal["unified", "pd"]
SYSTEMS: tuple[SystemName, ...] = ("unified", "pd")


class ProgressLike(Protocol):
    """Takes reports of progress."""

    def update(self, completed: int, now_s: float) -> None:
        """``completed`` requests are done at simulated time ``now_s``."""


ProgressMaker = Callable[[str, int], AbstractContextManager[ProgressLike]]
"""``progress(label, total)``: for one simulation of ``total`` requests."""


@dataclass(frozen=True)
class Case:
    """One simulation: what serves what, from which seed, and what of it counts."""

    name: str
    """What the result is called: a system's name, or a policy's."""
    system: str
    """One of ``SYSTEMS``."""
    plan: Plan
    workload: Workload
    seed: int
    warmup_requests: int = 0
    """The first so many requests are served, and count in no statistics."""
    label: str = ""
    """What progress calls it, where that is not ``name``."""
    drains: bool = True
    """Whether the run ends with the last answer; else as the last request comes, which is not served any more."""
    patience: Patience | None = None
    """When clients give up; ``None``: as the plan's configuration has it."""
    keeps_detail: bool = False
    """Whether the result has every step that an engine ran, what instances held over time and what KV moved."""
    given: GivenHeads | None = None
    """What caches are given of prompts as these come; ``None``: nothing, they have what they have computed."""
    part: RunPart | None = None
    """What this run is a part of; ``None``: it is whole."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


@dataclass(frozen=True)
class RunResult:
    """A case, and what came of it."""

    case: Case
    system: SystemResult
    """Measured over a window of its own: ``kvsim.record.windows.measured_alike`` gives several the same."""
    gave_up: int
    """Requests whose client gave them up; they count as failed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


def run(case: Case, progress: ProgressMaker | None = None) -> RunResult:
    """Simulate ``case``; an interrupt ends it early, and the result says that it is incomplete.

    A case that is made of parts (``kvsim.sim.parts``) is run part by part, and an interrupt leaves nothing of it:
    ``KeyboardInterrupt``. Raises a ``KvsimError`` where it would not fit the memory of this machine.
    """
    from kvsim.sim.parts import parts_of

    bar_of = progress or quiet
    parts = parts_of(case)
    with bar_of(case.label or case.name, len(case.workload)) as bar:
        if parts is None:
            # The collector takes what has run at the end of ``end``, before its rows are copied.
            return result(case, end(case, bar.update))
        merge, done = parts.merge(), 0
        for number in range(len(parts)):
            part_left = end(parts.case(number), partial(_later, bar.update, done))
            if part_left.incomplete:
                raise KeyboardInterrupt
            merge.add(part_left, parts.numbers(number))
            done += parts.requests(number)
    return result(case, merge.whole())


def end(case: Case, update: Callable[[int, float], None]) -> Ended:
    """Simulate ``case`` as one system, and tell what it has left. ``update``: as of ``ProgressLike``."""
    with gc_paused():
        built = _built(case, update)
        looked = look_after(built, case.patience)
        stop_s = None if case.drains else float(case.workload.arrival_s[-1])
        if case.part is not None:
            stop_s = case.part.stop_s
        if stop_s is not None:
            clock = built.clock
            clock.schedule(stop_s, callback=lambda _: clock.stop())
        built.run(case.warmup_requests, case.part or WHOLE)
        found = ended(built, None if looked is None else looked.use())
        _let_go(built)
        del built
    return found


def result(case: Case, end: Ended) -> RunResult:
    """What came of ``case``, of which a run has left so much."""
    return RunResult(case, result_of(end, case.workload, case.warmup_requests, case.name), end.gave_up)


def _let_go(system: ServingSystem) -> None:
    """Free what a run has built. Of a compiled PD system one engine is held for ever, for a reason not known, and with
    it all that it reaches: a run of many parts would keep them all.
    """
    for state in system.sequences:
        state.transfer = None
    for engines in system.engines_by_role().values():
        for engine in engines:
            engine.drop_steps()
        engines.clear()
    system.index = PrefixIndex()


def _later(update: Callable[[int, float], None], before: int, completed: int, now_s: float) -> None:
    """Progress of a part, before which so many requests were done."""
    update(before + completed, now_s)


def _built(case: Case, update: Callable[[int, float], None]) -> ServingSystem:
    workload, seed, keeps_detail = case.workload, case.seed, case.keeps_detail
    plan = case.plan.drafting_with(seed)
    if case.given is not None:
        if case.system == "pd":
            return GivenPdSystem(plan, workload, seed, case.given, update, keeps_detail=keeps_detail)
        return GivenUnifiedSystem(plan, workload, seed, case.given, update, keeps_detail=keeps_detail)
    if case.system == "pd":
        return PdSystem(plan, workload, seed, update, keeps_detail=keeps_detail)
    return UnifiedSystem(plan, workload, seed, update, keeps_detail=keeps_detail)


class _Silent:
    """Progress that nobody sees."""

    def update(self, completed: int, now_s: float) -> None:
        """Nobody looks."""


def quiet(_label: str, _total: int) -> AbstractContextManager[ProgressLike]:
    """Progress that nobody looks at."""
    return nullcontext(_Silent())
