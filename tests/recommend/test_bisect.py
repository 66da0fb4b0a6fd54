"""The largest rate within a limit, on systems whose largest rate is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.optimize import brentq

from kvsim.recommend.bisect import FoundRate, Precision, bisect_rate

PRECISION = Precision(resolution=0.02, replications=12, confidence=0.95)
LIMIT, WANTED = 6.0, 0.95


def md1_within(load: float, limit: float) -> float:
    """P(W <= limit) of the wait in an M/D/1 queue with service 1 (Erlang; Tijms, A First Course, section 9.6.2)."""
    terms = [
        (-load * (limit - k)) ** k / math.factorial(k) * math.exp(load * (limit - k)) for k in range(int(limit) + 1)
    ]
    return (1 - load) * math.fsum(terms)


def md1(seed: int, customers: int = 3000) -> Callable[[float, Sequence[int]], list[float]]:
    """Shares of customers who wait no longer than LIMIT; each replication has the same draws at every rate."""

    def measure(rate: float, replications: Sequence[int]) -> list[float]:
        shares = []
        for replication in replications:
            gaps = np.random.default_rng((seed, replication)).exponential(1.0, customers) / rate
            walk = np.concatenate(([0.0], np.cumsum(1.0 - gaps[1:])))
            waits = walk - np.minimum.accumulate(walk)
            shares.append(float((waits[customers // 5 :] <= LIMIT).mean()))
        return shares

    return measure


def holds(found: FoundRate, rate: float) -> bool:
    return found.low_per_s <= rate <= found.high_per_s


def test_the_known_maximum_of_a_queue_is_within_the_interval() -> None:
    true = brentq(lambda load: md1_within(load, LIMIT) - WANTED, 0.1, 0.99)
    found = [bisect_rate(md1(seed), WANTED, 0.5, PRECISION) for seed in range(100)]
    assert sum(holds(one, true) for one in found) >= 90
    widths = [one.high_per_s / one.low_per_s - 1 for one in found]
    assert np.median(widths) < 0.12 and max(widths) < 0.5
    assert np.mean([one.requests_per_s for one in found]) == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize("start", [1.0, 7.3, 400.0])
def test_constant_steps_are_found_within_the_resolution(start: float) -> None:
    def measure(rate: float, replications: Sequence[int]) -> list[float]:
        return [1.0 if rate <= 7.3 else 0.4] * len(replications)

    found = bisect_rate(measure, 0.99, start, PRECISION)
    assert holds(found, 7.3) and found.high_per_s / found.low_per_s <= 1.021
    assert all(probe.replications == 3 for probe in found.probes)


def test_what_never_misses_and_what_never_keeps_says_so() -> None:
    always = bisect_rate(lambda _, many: [1.0] * len(many), 0.99, 5.0, PRECISION, most=20.0)
    assert (always.low_per_s, always.high_per_s, always.requests_per_s) == (20.0, math.inf, 20.0)
    never = bisect_rate(lambda _, many: [0.2] * len(many), 0.99, 5.0, PRECISION)
    assert never.low_per_s == never.requests_per_s == 0.0 and never.high_per_s < 5.0


def test_noise_at_every_rate_leaves_the_answer_open() -> None:
    """A share that hardly depends on the rate is not told apart anywhere, and no interval is made of it."""
    random = np.random.default_rng(1)
    found = bisect_rate(lambda _, many: [0.99 + random.normal(0, 0.01) for _ in many], 0.99, 5.0, PRECISION)
    assert found.low_per_s == 0.0 or math.isinf(found.high_per_s) or found.high_per_s / found.low_per_s > 1.5
