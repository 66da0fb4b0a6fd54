"""Which studies there are: one file each in ``kvsim.study.questions``, which nothing else has to know."""

from __future__ import annotations

import math
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from kvsim.config.schema import Studies
from kvsim.errors import ConfigError, nearest
from kvsim.failures import Failures
from kvsim.plan.mode import ModeName
from kvsim.sim.run import SystemName
from kvsim.study import questions
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import StudyContext
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

Answer = TypeVar("Answer", bound=StudyAnswer)


@dataclass(frozen=True)
class Study(Generic[Answer]):
    """One question, and all ways to tell its answer. A file of ``kvsim.study.questions`` has one, as ``STUDY``."""

    name: str
    """As ``--studies`` has it."""
    places: Mapping[ModeName, int]
    """The modes that ask it, and its place among their studies."""
    systems: frozenset[SystemName]
    """Which have to be run for it."""
    ask: Callable[[StudyContext], Answer]
    sentence: Callable[[Answer], str]
    table: Callable[[Answer], Table]
    figure: Callable[[Answer], Figure]
    rows: Callable[[Answer], Sized]
    """What there has to be something of for a picture."""
    section: str = ""
    """The key of its answer among the report's ``studies``; ``name`` unless given."""
    asked_by: Callable[[StudyContext], bool] | None = None
    """Whether a flag of its own asks it, as ``--compare`` does; ``None``: its name does."""

    @property
    def key(self) -> str:
        return self.section or self.name

    @property
    def asks(self) -> str:
        """In a line."""
        return (sys.modules[self.ask.__module__].__doc__ or "").splitlines()[0]


@cache
def studies() -> dict[str, Study[Any]]:
    """All of them, by their section in the report."""
    names = sorted(module.name for module in pkgutil.iter_modules(questions.__path__))
    found = [import_module(f"{questions.__name__}.{name}").STUDY for name in names]
    return {study.key: study for study in found}


def named(mode: ModeName, systems: Sequence[str] = ()) -> dict[str, Study[Any]]:
    """Studies of ``mode`` that can be asked for by name where only ``systems`` are run (none: all), in its order."""
    asked = [study for study in studies().values() if mode in study.places and study.asked_by is None]
    known = [study for study in asked if not systems or study.systems <= set(systems)]
    return {study.name: study for study in sorted(known, key=lambda study: study.places[mode])}


def chosen(
    mode: ModeName, names: Sequence[str] | None, systems: Sequence[str], said: tuple[str, str] = ("studies", "systems")
) -> tuple[str, ...]:
    """``names``, or all that can be made where only ``systems`` are run (none: all are) in place of ``None``.

    Raises ``ConfigError`` for one that ``mode`` does not know or that cannot be made; ``said``: how names and systems
    were asked for.
    """
    known, possible = list(named(mode)), list(named(mode, systems))
    for name in names or ():
        if name not in known:
            raise ConfigError(f"{said[0]}: '{name}' is no study of this mode; {nearest(name, known)}")
        if name not in possible:
            raise ConfigError(f"{said[0]} {name} cannot be made with {said[1]} {','.join(systems)} alone")
    return tuple(possible) if names is None else tuple(names)


class Studied(NamedTuple):
    """What came of studies."""

    found: dict[str, StudyAnswer]
    """The report's ``studies``."""
    cut_short: bool
    """By an interrupt."""


def why_none(workload: Workload, traffic: Traffic, settings: Studies) -> str | None:
    """Why there is nothing to study, if so: traffic without a rate, or of too few requests.

    ``workload`` is what the run served.
    """
    if not math.isfinite(workload.mean_rate_per_s):
        return workload.without_rate
    distinct, fewest = traffic.most_requests, settings.fewest_requests
    if distinct is not None and traffic.copies_at(workload.mean_rate_per_s) is not None:
        distinct = min(distinct, len(workload))
    if distinct is None or distinct >= fewest:
        return None
    return f"too few requests ({distinct:,}; needs at least {fewest:,})"


def run_studies(context: StudyContext, names: Sequence[str], failures: Failures) -> Studied:
    """What flags of their own ask, then each of ``names``; one that cannot be answered leaves the others and the
    run before them their results.
    """
    known = named(context.mode.name)
    compared = [study for study in studies().values() if study.asked_by is not None and study.asked_by(context)]
    found: dict[str, StudyAnswer] = {}
    try:
        for study in (*compared, *(known[name] for name in names)):
            answer = failures.attempt(f"study {study.name}", partial(study.ask, context))
            if answer is not None:
                found[study.key] = answer
    except KeyboardInterrupt:
        return Studied(found, True)
    return Studied(found, False)
