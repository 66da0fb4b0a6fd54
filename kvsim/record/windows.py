"""The window of time over which all that is compared is measured, and whether it shows a steady state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvsim.record.result import Pace, RoleUse, SystemResult
from kvsim.record.summary import e2e_s, in_window, ttft_s

LATE = 95
"""Percentile of E2E at which completions keep up with arrivals: a window begins when a run is that old."""
_LEAST_SHARE = 0.25
"""Share of the arrivals' span that a window inside it takes at least."""
_SERVED = ("proxy_s", "prefill_s", "interference_s", "first_decode_s")
"""Parts of TTFT in which a request does not wait."""
_FEWEST = 30
"""Measured requests that a trend is looked for in."""
GROWS = 0.02
"""Seconds of TTFT a second of arrivals: asked for 2% more than possible, TTFT grows by that."""
DEVIATIONS = 3.0
"""Between what comes and what completes in a window, in standard deviations of so many arrivals at random: a window of
twice late E2E holds at least twice what is in the system at a time, whose change is the difference."""
MATERIAL = 0.02
"""Share of what comes by which completions may differ, however surely: throughputs so near are called equal."""
_ABOVE, _NEAR, _SURELY = 1.05, 0.97, 1.5
"""Loads by arithmetic, which may err by some percent, and has the hits of a short run's cold caches: overload, what may
be one where TTFT grows, and what is one whatever TTFT does.
"""
_IDLE = 0.9
"""Where all sides are busy for less of the later arrivals there is room for more."""

Rates = Mapping[str, tuple[float, float]]
"""By system: requests/s that are asked of it and fit, and that are possible; nan when not known."""


@dataclass(frozen=True)
class Window:
    """Throughput counts completions after ``start_s`` and up to ``end_s``."""

    start_s: float
    end_s: float
    late_s: float
    """Seconds behind the first arrival that it begins at the earliest; nan where nothing was measured."""
    is_filled: bool
    """Completions keep up with arrivals all through it; else it is the whole run, the filling and the draining too."""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def measured_alike(results: Sequence[SystemResult], factor: float, rates: Rates) -> list[SystemResult]:
    """``results`` of the same requests, all over one window, each with whether it is steady and keeps up.

    ``factor``: the times that a steady window is as long as the ``LATE`` percentile of E2E, at the least.
    """
    paces = [pace(result, *rates.get(result.name, (math.nan, math.nan))) for result in results]
    window = common_window(results, factor, [found.overloaded for found in paces])
    return [_judged(result, found, window, factor) for result, found in zip(results, paces, strict=True)]


def common_window(results: Sequence[SystemResult], factor: float, overloaded: Sequence[bool] = ()) -> Window:
    """From where completions of all keep up with arrivals to the last arrival; ``overloaded``: which of them are.

    Completions lag arrivals by E2E, so it begins at the first of the marked arrivals by which the run is as old as the
    late E2E of the slowest, and not before the first measured arrival. In overload E2E has no end and what a request
    is served for, without its waiting, takes its place; where all are overloaded it goes on until the first of them has
    no request left that waits, as all are busy until then.

    Where that leaves less than ``factor`` times as long, or less than a quarter of the arrivals' span, or nothing that
    some system completed, it is the whole run of the slowest: from the first arrival to the last completion, so that
    what each has completed is divided by the same time.
    """
    waits = any(overloaded)
    late_s = max((_late_s(result, waits) for result in results if result.measured.any()), default=math.nan)
    cut_s = min((result.end_s for result in results if result.incomplete), default=math.inf)
    firsts_s = [float(result.marks_s[0]) for result in results if len(result.marks_s)]
    whole = Window(min(firsts_s, default=0.0), min(cut_s, max(r.end_s for r in results)), late_s, is_filled=False)
    if math.isnan(late_s) or not all(len(result.marks_s) for result in results):
        return whole
    last_s = min(cut_s, *(float(result.marks_s[-1]) for result in results))
    if waits and all(overloaded):
        last_s = min(cut_s, *(float(result.table["first_token_s"].max(initial=0.0)) for result in results))
    begin_s = max(max(firsts_s) + late_s, *(result.first_measured_s for result in results))
    starts_s = [float(mark_s) for mark_s in results[0].marks_s if begin_s <= mark_s < last_s]
    if not starts_s and waits and begin_s < last_s:
        starts_s = [begin_s]
    if not starts_s:
        return whole
    window = Window(starts_s[0], last_s, late_s, is_filled=True)
    least_s = max(0.0 if waits else factor * late_s, _LEAST_SHARE * (last_s - min(firsts_s)))
    served = all(in_window(result, (window.start_s, last_s)).any() for result in results)
    return window if window.length_s >= least_s and served else whole


def over(result: SystemResult, window: Window) -> SystemResult:
    """``result`` with all that is measured over a window measured over this one."""
    window_s = window.start_s, window.end_s
    roles = tuple(_used(role, window_s, result.end_s) for role in result.roles)
    return replace(result, window_s=window_s, window_is_whole=not window.is_filled, roles=roles)


def _used(role: RoleUse, window_s: tuple[float, float], end_s: float) -> RoleUse:
    return replace(
        role,
        busy=_busy(role, window_s, end_s),
        kv_usage=role.kv_usage if role.held is None else role.held.share(window_s),
        pools=tuple(replace(pool, use=_used(pool.use, window_s, end_s)) for pool in role.pools),
    )


def pace(result: SystemResult, asked_per_s: float, possible_per_s: float) -> Pace:
    """Whether ``result`` keeps up: by arithmetic, and by TTFT in the order of arrival.

    Asked for r times what is possible, a request that arrives at t waits for the (r - 1) t seconds of work before it.
    Where arithmetic could err by what is missing TTFT has to grow too; where decoding gets slower first, it need not
    grow by much, but may not fall. While instances stand idle nothing is overloaded.
    """
    growth, doubles = _growth(result)
    load = asked_per_s / possible_per_s if possible_per_s > 0 else math.nan
    grows = growth >= GROWS and (load > 1 or (doubles and not load < _NEAR))
    overloaded = grows or (load >= _ABOVE and growth >= 0) or load >= _SURELY
    judged = not math.isnan(growth) and not result.is_closed and not _has_idle(result)
    return Pace(overloaded and judged, growth, asked_per_s, possible_per_s)


def _has_idle(result: SystemResult) -> bool:
    """Whether every side stands idle for some of the second half of the arrivals."""
    if len(result.marks_s) < 2:
        return False
    first_s, last_s = float(result.marks_s[0]), float(result.marks_s[-1])
    later_s = (first_s + last_s) / 2, last_s
    busy = [_busy(role, later_s, result.end_s) for role in result.roles]
    return bool(busy) and all(share < _IDLE for share in busy)


def _judged(result: SystemResult, found: Pace, window: Window, factor: float) -> SystemResult:
    steady, why = _steadiness(result, found, window, factor)
    measured = over(result, window)
    return replace(measured, pace=found, steady=steady and not result.incomplete, steady_why=why)


def _steadiness(result: SystemResult, found: Pace, window: Window, factor: float) -> tuple[bool, str]:
    if found.overloaded:
        return False, overload_words(found)
    if math.isnan(window.late_s) or result.arrived < 2:
        return False, "too few measured requests to tell"
    if _span_s(result) <= 0:
        return False, "all requests arrive at once"
    # Of an overloaded system the window knows the late E2E without the waiting only.
    late_s, whose = max((window.late_s, ", of the slowest"), (_late_s(result, overloaded=False), ""))
    late = f"the {LATE}th percentile of E2E ({late_s:.3g} s{whose})"
    if not window.is_filled:
        needed = 1 + math.ceil((1 + factor) * window.late_s * (result.arrived - 1) / _span_s(result))
        if found.asked_per_s >= _ABOVE * found.possible_per_s:
            rates = f"{found.asked_per_s:.4g} requests/s come, {found.possible_per_s:.3g} possible"
            return False, f"{rates}: more of the same would not be steady either"
        short = f"no window of {factor:g} x {late} is left after as long a start"
        if needed <= result.arrived:
            return False, short
        return False, f"{short}: about {needed:,} requests would have one, where {result.arrived:,} came"
    length = f"the window of {window.length_s:.4g} s is {window.length_s / late_s:.3g} x {late}"
    if window.length_s < factor * late_s:
        return False, f"{length}; {factor:g} are wanted"
    arrival_s = result.table["arrival_s"]
    came = int(((arrival_s > window.start_s) & (arrival_s <= window.end_s)).sum())
    completed = int(in_window(result, (window.start_s, window.end_s)).sum())
    if abs(came - completed) > max(1 + DEVIATIONS * math.sqrt(came), MATERIAL * came):
        return False, f"{came:,} requests came in the window and {completed:,} completed"
    growth, doubles = _growth(result)
    if growth >= GROWS and doubles and not result.is_closed:
        return False, f"TTFT grows while requests arrive, {growth_words(growth)}"
    return True, length


def overload_words(found: Pace) -> str:
    """``asked`` against ``possible``, and what becomes of TTFT."""
    facts = []
    if found.asked_per_s > found.possible_per_s:
        facts.append(f"{found.asked_per_s:.3g} requests/s come, {found.possible_per_s:.3g} possible")
    if found.ttft_growth >= GROWS:
        facts.append(f"TTFT grows with the length of the run, {growth_words(found.ttft_growth)}")
    return f"overloaded: {'; '.join(facts)}"


def growth_words(growth: float) -> str:
    return f"by {growth * 60:.3g} s a minute"


def _growth(result: SystemResult) -> tuple[float, bool]:
    """The slope of TTFT over arrival, and whether TTFT rises from third to third of the arrivals, to twice at least."""
    table = {name: result.table[name][result.measured] for name in ("arrival_s", "first_token_s")}
    order = np.argsort(table["arrival_s"], kind="stable")
    arrival_s, ttfts_s = table["arrival_s"][order], ttft_s(table)[order]
    if len(order) < _FEWEST or arrival_s[-1] <= arrival_s[0]:
        return math.nan, False
    from_mean_s = arrival_s - arrival_s.mean()
    slope = float((from_mean_s * ttfts_s).sum() / (from_mean_s**2).sum())
    first_s, second_s, third_s = (float(part.mean()) for part in np.array_split(ttfts_s, 3))
    return slope, first_s < second_s < third_s and third_s >= 2 * first_s


def _late_s(result: SystemResult, overloaded: bool) -> float:
    """The late E2E of the measured requests; in overload without what they waited."""
    rows = result.measured
    if not rows.any():
        return math.nan
    sojourn_s = e2e_s(result.table)[rows]
    if overloaded:
        sojourn_s -= ttft_s(result.table)[rows]
        for part in _SERVED:
            sojourn_s += result.table[part][rows]
    return float(np.percentile(sojourn_s, LATE))


def _span_s(result: SystemResult) -> float:
    return float(result.marks_s[-1] - result.marks_s[0]) if len(result.marks_s) else 0.0


def _busy(role: RoleUse, window_s: tuple[float, float], end_s: float) -> float:
    """The mean over a window, to the resolution of the timeline's bins."""
    start_s, stop_s = window_s
    if stop_s <= start_s or not len(role.timeline_s):
        return math.nan
    edges_s = np.append(role.timeline_s, max(end_s, float(role.timeline_s[-1])))
    before_s = np.append(0.0, np.cumsum(role.timeline_busy * np.diff(edges_s)))
    low_s, high_s = np.interp(window_s, edges_s, before_s)
    return min(1.0, float(high_s - low_s) / (stop_s - start_s))
