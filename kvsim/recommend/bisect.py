"""The largest rate that keeps a limit, where every run is a draw: bisection by sequential tests, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from kvsim.study.intervals import interval

Answer = Literal["keeps", "misses", "open"]
Measure = Callable[[float, Sequence[int]], Sequence[float]]
"""``measure(rate, replications)``: the share of good requests in each of these replications at that rate."""

_ERRORS = (0.04, 0.16, 0.5)
"""Shares of the allowed error that each look at the replications of a rate may spend, each with twice as many as the
look before: few replications of a skewed share agree by chance more often than Student's interval has it."""
_WIDER = 1.5
"""Factor by which a bracket is widened that does not hold the answer."""
_MOST_WIDENINGS = 12
_LEAST_ERROR = 1e-4
"""Shares whose mean is this near to the wanted one are not told apart from it where all replications agree."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was seen at one rate."""

    requests_per_s: float
    replications: int
    good_share: float
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class FoundRate:
    """The largest rate at which the wanted share of requests is good."""

    requests_per_s: float
    """The best guess: where the line through what was seen crosses the wanted share."""
    low_per_s: float
    """The highest rate that surely keeps it; 0: none was found."""
    high_per_s: float
    """The lowest rate that surely misses it; infinite: none was found."""
    confidence: float
    probes: tuple[Probe, ...] = field(default=())
    """By rate."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a rate is looked for."""

    resolution: float
    """Relative width of the interval that is narrow enough."""
    replications: int
    """Runs at one rate, at the most."""
    confidence: float


def bisect_rate(
    measure: Measure, wanted: float, start: float, precision: Precision, most: float = math.inf
) -> FoundRate:
    """Search around ``start``, up to ``most``, for the rate above which fewer than ``wanted`` are good.

    At each rate replications are added until Student's interval of their mean leaves ``wanted`` out, looked at three
    times with the allowed error divided among the looks, or there are as many as allowed: then the rate is left open,
    and the search goes on on either side of it. Replications have the same numbers at every rate, so that rates are
    compared on the same draws. The share of good requests must not rise with the rate.
    """
    search = _Search(measure, wanted, precision)
    low, high = search.bracket(start, most)
    while high / max(low, 1e-300) > 1 + precision.resolution and math.isfinite(high) and low > 0:
        middle = math.sqrt(low * high)
        answer = search.ask(middle)
        if answer == "keeps":
            low = middle
        elif answer == "misses":
            high = middle
        else:
            low, high = search.around(low, middle, high)
            break
    probes = tuple(search.seen[rate] for rate in sorted(search.seen))
    guess = _crossing(probes, wanted, low, high)
    return FoundRate(
        requests_per_s=guess, low_per_s=low, high_per_s=high, confidence=precision.confidence, probes=probes
    )


class _Search:
    def __init__(self, measure: Measure, wanted: float, precision: Precision) -> None:
        self._measure, self._wanted, self._precision = measure, wanted, precision
        self.seen: dict[float, Probe] = {}

    def ask(self, rate: float) -> Answer:
        """Whether the wanted share is good at a rate."""
        if rate not in self.seen:
            self.seen[rate] = self._looked_at(rate)
        return self.seen[rate].answer

    def _looked_at(self, rate: float) -> Probe:
        most, shares = self._precision.replications, list[float]()
        answer: Answer = "open"
        for look, error in enumerate(_ERRORS):
            count = max(most >> (len(_ERRORS) - 1 - look), 2)
            shares += self._measure(rate, range(len(shares), count))
            answer = self._judged(shares, 1 - (1 - self._precision.confidence) * error)
            if answer != "open":
                break
        mean = math.fsum(shares) / len(shares)
        return Probe(requests_per_s=rate, replications=len(shares), good_share=mean, answer=answer)

    def _judged(self, shares: Sequence[float], confidence: float) -> Answer:
        around = interval([share - self._wanted for share in shares], confidence)
        if abs(around.mean) <= max(around.half_width, _LEAST_ERROR if around.half_width else 0.0):
            return "keeps" if around.half_width == 0 and around.mean == 0 else "open"
        return "keeps" if around.mean > 0 else "misses"

    def bracket(self, start: float, most: float) -> tuple[float, float]:
        """A rate that keeps the share, 0 where none is found, and one that misses it, infinite where none is."""
        start = min(start, most)
        low, high, rate = 0.0, math.inf, start
        for _ in range(_MOST_WIDENINGS):
            if self.ask(rate) == "keeps":
                low = rate
                break
            high = min(high, rate) if self.ask(rate) == "misses" else high
            rate /= _WIDER
        rate = start
        for _ in range(_MOST_WIDENINGS):
            if math.isfinite(high) or rate >= most:
                break
            rate = min(rate * _WIDER, most)
            answer = self.ask(rate)
            low = max(low, rate) if answer == "keeps" else low
            high = rate if answer == "misses" else high
        return low, high

    def around(self, low: float, middle: float, high: float) -> tuple[float, float]:
        """The interval where the middle is open: each side is halved as long as its middle is decided."""
        width = self._precision.resolution / 2
        inner = middle
        while inner / low > 1 + width:
            rate = math.sqrt(low * inner)
            if self.ask(rate) != "keeps":
                break
            low = rate
        inner = middle
        while high / inner > 1 + width:
            rate = math.sqrt(high * inner)
            if self.ask(rate) != "misses":
                break
            high = rate
        return low, high


def _crossing(probes: Sequence[Probe], wanted: float, low: float, high: float) -> float:
    """Where the shares that were seen in the interval cross the wanted one, by a line between two of them."""
    inside = [probe for probe in probes if low <= probe.requests_per_s <= high]
    for left, right in pairwise(inside):
        if left.good_share >= wanted > right.good_share:
            fall = left.good_share - right.good_share
            share = (left.good_share - wanted) / fall
            return left.requests_per_s + share * (right.requests_per_s - left.requests_per_s)
    if low > 0 and math.isfinite(high):
        return math.sqrt(low * high)
    return low if low > 0 else 0.0
