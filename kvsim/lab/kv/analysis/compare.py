"""A simulated run beside a measured one of the same design: figures, effects, hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kvsim._version import __version__
from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.lab.backend import SIMULATED
from kvsim.lab.kv.analysis.analysis import Analysis, analyse
from kvsim.lab.kv.analysis.merge import REPEATS, first_difference
from kvsim.lab.kv.analysis.metrics import METRICS
from kvsim.lab.kv.analysis.paired import Effect
from kvsim.lab.kv.folder import read_run
from kvsim.record.plain import plain

MAY_DIFFER = (REPEATS, "question", "server", "gpu", "set", "confidence")
"""Keys of a design that change neither phases nor points: what a simulation is told, or how it is reported."""
Sign = Literal["same", "other", "cannot be told"]
FORM = "kvsim lab comparison"


class CompareError(KvsimError):
    """Runs that cannot stand side by side."""


@dataclass(frozen=True, kw_only=True)
class ComparedFigure:
    """A metric of a phase: means over the repeats of each run."""

    point: int
    at: Mapping[str, float]
    phase: str
    metric: str
    predicted: float | None
    measured: float | None
    error_pct: float | None
    """``None``: one of both is missing, or what was measured is zero."""


@dataclass(frozen=True, kw_only=True)
class ComparedEffect:
    """A paired difference in both runs."""

    predicted: Effect
    measured: Effect
    sign: Sign
    """``cannot be told``: an interval of one holds zero, or is not there."""
    within: bool | None
    """Whether the predicted difference lies within the measured interval; ``None``: there is none, or no prediction."""


@dataclass(frozen=True, kw_only=True)
class ComparedHits:
    """Cached tokens of requests that both runs have, one by one."""

    point: int
    at: Mapping[str, float]
    phase: str
    requests: int
    equal: int
    predicted_tokens: int
    measured_tokens: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is compared."""

    name: str
    simulated: Analysis
    measured: Analysis
    figures: list[ComparedFigure]
    effects: list[ComparedEffect]
    hits: list[ComparedHits]

    def as_json(self) -> dict[str, object]:
        """Everything that is known of it."""
        return {
            "form": FORM,
            "kv_comparison": self.name,
            "version": __version__,
            "backends": [self.simulated.rows.trials.backend, self.measured.rows.trials.backend],
            "repeats": [len(self.simulated.rows.repeats), len(self.measured.rows.repeats)],
            "figures": plain(self.figures),
            "effects": plain(self.effects),
            "hits": plain(self.hits),
        }


def compared(simulated: Path, live: Path) -> Comparison:
    """Read both and compare. Raises a ``KvsimError``: no runs, the first not simulated, or not of one design."""
    a, b = read_run(simulated), read_run(live)
    if a.backend != SIMULATED:
        raise CompareError(f"{named(simulated)}: of backend '{a.backend}'; the first folder is of '{SIMULATED}'")
    key = first_difference(a.design, b.design, MAY_DIFFER)
    if key is not None:
        raise CompareError(
            f"{named(simulated)} and {named(live)}: {key} is {a.design.get(key)!r} and {b.design.get(key)!r}; runs of "
            "one design are wanted"
        )
    one, other = analyse(a), analyse(b)
    for place, here in ((simulated, _places(one)), (live, _places(other))):
        lacking = (_places(one) | _places(other)) - here
        if lacking:
            point, phase, at = min(lacking)
            told = "".join(f", {name} {value:g}" for name, value in at)
            raise CompareError(f"{named(place)}: has no phase '{phase}' at point {point}{told}, which the other has")
    return Comparison(
        name=a.name,
        simulated=one,
        measured=other,
        figures=_figures(one, other),
        effects=_effects(one, other),
        hits=_hits(one, other),
    )


def _places(found: Analysis) -> set[tuple[int, str, tuple[tuple[str, float], ...]]]:
    return {(row.point, row.phase, tuple(sorted(row.at.items()))) for row in found.summary}


def _figures(one: Analysis, other: Analysis) -> list[ComparedFigure]:
    measured = {(row.point, row.phase): row for row in other.summary}
    found = []
    for row in one.summary:
        for name in (metric.name for metric in METRICS):
            ours, theirs = row.metrics[name], measured[row.point, row.phase].metrics[name]
            found.append(
                ComparedFigure(
                    point=row.point,
                    at=row.at,
                    phase=row.phase,
                    metric=name,
                    predicted=None if ours is None else ours.mean,
                    measured=None if theirs is None else theirs.mean,
                    error_pct=None
                    if ours is None or theirs is None or not theirs.mean
                    else 100 * (ours.mean - theirs.mean) / theirs.mean,
                )
            )
    return found


def _effects(one: Analysis, other: Analysis) -> list[ComparedEffect]:
    measured = {(each.point, each.metric, each.base, each.phase): each for each in other.effects}
    return [
        ComparedEffect(predicted=ours, measured=theirs, sign=_sign(ours, theirs), within=_within(ours, theirs))
        for ours in one.effects
        for theirs in [measured[ours.point, ours.metric, ours.base, ours.phase]]
    ]


def _sign(ours: Effect, theirs: Effect) -> Sign:
    if "same" in (ours.verdict, theirs.verdict) and ours.verdict == theirs.verdict:
        return "same"
    if not {ours.verdict, theirs.verdict} <= {"lower", "higher"}:
        return "cannot be told"
    return "same" if ours.verdict == theirs.verdict else "other"


def _within(ours: Effect, theirs: Effect) -> bool | None:
    if ours.difference is None or theirs.difference is None:
        return None
    if theirs.verdict == "same":
        return ours.difference == 0
    if theirs.low is None or theirs.high is None:
        return None
    return theirs.low <= ours.difference <= theirs.high


def _hits(one: Analysis, other: Analysis) -> list[ComparedHits]:
    found = []
    for row in one.summary:
        pairs = []
        for repeat in sorted(set(one.rows.repeats) & set(other.rows.repeats)):
            key = (row.point, repeat, row.phase)
            theirs = {each.request: each.cached_tokens for each in other.rows.requests(key)}
            for each in one.rows.requests(key):
                hit = theirs.get(each.request)
                if each.cached_tokens is not None and hit is not None:
                    pairs.append((each.cached_tokens, hit))
        found.append(
            ComparedHits(
                point=row.point,
                at=row.at,
                phase=row.phase,
                requests=len(pairs),
                equal=sum(ours == hit for ours, hit in pairs),
                predicted_tokens=sum(ours for ours, _ in pairs),
                measured_tokens=sum(hit for _, hit in pairs),
            )
        )
    return found
