"""What a study that stands alone is: a question, where it is asked, and all ways to tell the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from kvsim.experiments.bench import Bench
from kvsim.plan.mode import Mode
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

Answer = TypeVar("Answer", bound=StudyAnswer)


@dataclass(frozen=True, kw_only=True)
class StandaloneStudy(Generic[Answer]):
    """A file of ``kvsim.experiments.catalogue`` has one, as ``STUDY``; its docstring begins with the question."""

    mode: Mode
    """Whose sections of the configuration hold."""
    ask: Callable[[Bench], Answer]
    sentence: Callable[[Answer], str]
    """The conclusion, with the condition that it holds under and its interval."""
    tables: Callable[[Answer], Sequence[Table]]
    figure: Callable[[Answer], Figure]
    rows: Callable[[Answer], Sequence[object]]
    """Dataclasses: the lines of the CSV, whose columns are their fields."""
    sets: tuple[str, ...] = ()
    """Assignments, ``section.key=value``, that hold where the user has chosen nothing."""
    smoke: tuple[str, ...] = ()
    """Further ones under ``--preset smoke``: how often runs are repeated within 20 seconds of CPU."""
    at_load: bool = False
    """Whether all of it is driven at the run's load, ``load.rho`` unless requests come at a rate of their own."""
    own_requests: bool = False
    """Whether it draws its requests itself, so that no other workload can be given."""
    module: str = ""
    """Where the study stands; where ``ask`` does unless given."""

    @property
    def name(self) -> str:
        return self._module.rpartition(".")[2]

    @property
    def question(self) -> str:
        """In a line."""
        return (sys.modules[self._module].__doc__ or "").splitlines()[0]

    @property
    def _module(self) -> str:
        return self.module or self.ask.__module__


def standing_alone(
    study: Study[Answer],
    module: str,
    mode: Mode,
    rows: Callable[[Answer], Sequence[object]],
    sets: tuple[str, ...] = (),
    smoke: tuple[str, ...] = (),
    *,
    at_load: bool = False,
) -> StandaloneStudy[Answer]:
    """``study``, which a mode asks after its run, as one that is asked for itself; ``module``: of its file."""

    def ask(bench: Bench) -> Answer:
        found: Answer = bench.asked_after_a_run(study)
        return found

    return StandaloneStudy(
        mode=mode,
        ask=ask,
        sentence=study.sentence,
        tables=lambda answer: (study.table(answer),),
        figure=study.figure,
        rows=rows,
        sets=sets,
        smoke=smoke,
        at_load=at_load,
        module=module,
    )
