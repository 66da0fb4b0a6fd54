"""The sentences: what is recommended and on which condition, and why the first is the first."""

from __future__ import annotations

from kvsim.recommend.candidates import Candidate
from kvsim.recommend.question import Objective
from kvsim.recommend.race import Ranked, mean_figures
from kvsim.recommend.search import Searched
from kvsim.recommend.slo import GOOD, LIMITS, USE, Slo
from kvsim.record.labels import COMPONENT_LABELS, counted, number, percent, rate
from kvsim.study.replication import Figures


def conclude(found: Searched, slo: Slo, goal: Objective, most_gpus: int, certain: bool) -> str:
    """What to take, and how sure that is."""
    winner, best = found.ranked.places[0], found.ranked
    at = f"{rate(found.rate_per_s) if goal != 'rate' else number(found.rate_per_s)} requests/s"
    if not found.keeps:
        nearest = f"the nearest, {winner.name}, does for {_share(best)} of requests"
        nearest += f", {_missed(best, winner)} being missed most"
        own = f"; it keeps it up to {_up_to(found)}" if found.found is not None and found.found.low_per_s else ""
        gpus = counted(most_gpus, "GPU")
        return (
            f"No deployment that was simulated on up to {gpus} keeps the SLO ({slo.words}) at {at}: {nearest}{own}."
            f"{_ties(best, certain)}"
        )
    where = f"on {counted(winner.gpus, 'GPU')}"
    if goal == "rate":
        said = f"Take {winner.name}, {where}: it keeps the SLO ({slo.words}) up to {_up_to(found)}"
    else:
        use = percent(best.mean(winner, USE).mean)
        said = (
            f"Take {winner.name}, {where}: at {at} {_share(best)} of requests keep the SLO ({slo.words}), taking "
            f"{use} of its limits"
        )
        if found.found is not None:
            said += f"; it keeps it up to {_up_to(found)}"
    return f"{said}.{_ties(best, certain)}"


def _share(best: Ranked) -> str:
    """The share of requests that are good with the first, with its interval."""
    good = best.mean(best.places[0], GOOD)
    return f"{good.mean:.2%}" + (f" (+-{good.half_width:.2%})" if good.half_width < 1 else "")


def _up_to(found: Searched) -> str:
    """The largest rate with its interval."""
    known = found.found
    if known is None:
        return "that rate"
    high = number(known.high_per_s) if known.high_per_s < float("inf") else "no end that was seen"
    interval = f"{known.confidence:.0%} interval {number(known.low_per_s)} to {high}"
    return f"{number(known.requests_per_s)} requests/s ({interval})"


def _ties(best: Ranked, certain: bool) -> str:
    """Who is as good as the first, and whether the order is told apart."""
    tied, open_ = list[str](), list[str]()
    for place in range(1, min(3, len(best.places))):
        behind = best.runs.apart(best.places[place], best.places[0], USE)
        (tied if behind.tie else open_ if behind.verdict == "open" else []).append(best.places[place].name)
    said = ""
    if tied:
        said += f" As good: {'; '.join(tied)}."
    if open_:
        said += f" Not told apart from it: {'; '.join(open_)}."
    if not certain and not open_:
        said += " The order of those behind is not told apart as narrowly as asked."
    return said


def _missed(best: Ranked, candidate: Candidate) -> str:
    return binding_limit(mean_figures(best.runs.figures[candidate]))


def binding_limit(figures: Figures) -> str:
    """The limit that a run takes most of."""
    return max((name for name in LIMITS if f"use_{name}" in figures), key=lambda name: figures[f"use_{name}"])


def why(found: Searched, slo: Slo) -> str:
    """What binds the second, beside the first; and what those on fewer GPUs miss."""
    best = found.ranked
    parts = []
    if len(best.places) > 1:
        parts.append(_beside(best, slo))
    else:
        parts.append("Nothing else ran whole.")
    if found.below:
        parts.append(_below(found, slo))
    return " ".join(parts)


def _beside(best: Ranked, slo: Slo) -> str:
    first, second = best.places[:2]
    behind = best.runs.apart(second, first, USE)
    limit = binding_limit(mean_figures(best.runs.figures[second]))
    ours, theirs = (best.mean(one, f"use_{limit}").mean for one in (first, second))
    unit_ms = slo.limits_ms[limit]
    figures = (
        f"{limit} at {slo.share:.4g} of requests is {number(theirs * unit_ms)} ms of {unit_ms:g}, where the first has "
        f"{number(ours * unit_ms)}"
    )
    if behind.tie or behind.verdict == "open":
        word = "as good" if behind.tie else "not told apart from the first"
        return f"{second.name} is {word}: what binds it is {limit}; {figures}."
    cause = _cause(best, first, second) if limit == "TTFT" else ""
    return f"{second.name} comes second because of its {limit}: {figures}{cause}."


def _cause(best: Ranked, first: Candidate, second: Candidate) -> str:
    """The part of late TTFT that is most of the difference."""
    names = [f"late_{name}_s" for name in COMPONENT_LABELS]
    apart = {name: best.mean(second, name).mean - best.mean(first, name).mean for name in names}
    whole = sum(apart.values())
    most = max(apart, key=apart.__getitem__)
    if whole <= 0 or apart[most] < whole / 2:
        return ""
    label = COMPONENT_LABELS[most.removeprefix("late_").removesuffix("_s")]
    return f"; of its p99 {number(apart[most])} ms more are {label}"


def _below(found: Searched, slo: Slo) -> str:
    """The best on fewer GPUs, and what it misses."""
    nearest = max(found.below, key=lambda one: (found.below[one][GOOD], -found.below[one][USE]))
    figures = found.below[nearest]
    return (
        f"On fewer GPUs the nearest, {nearest.name} ({counted(nearest.gpus, 'GPU')}), keeps the SLO for "
        f"{percent(figures[GOOD])} of requests: {binding_limit(figures)} is what they miss."
    )
