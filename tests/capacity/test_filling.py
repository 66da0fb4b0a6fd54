"""How a system fills up, against closed forms, and how long a window has to be for that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kvsim.capacity.decode_residency import DecodeResidency
from kvsim.capacity.filling import Decoding, filling, window_s

MOMENTS = 300
"""Of six times late E2E, here 60 s."""


def decoding(steps: list[float], step_s: Callable[[float], float], seats: int = 1000, instances: int = 1) -> Decoding:
    tokens = np.asarray(steps, dtype=np.float64)
    return Decoding(DecodeResidency(tokens, tokens, 0.0, False), step_s, seats, instances)


def at(found: np.ndarray, moment_s: float) -> float:
    return float(found[round(moment_s / 60 * MOMENTS)])


def test_equal_answers_come_until_the_first_goes() -> None:
    """100 steps of 50 ms: what came in the last 5 s is there."""
    found = filling(decoding([100.0], lambda _: 0.05), rate_per_s=20.0, late_s=10.0)
    assert len(found) == MOMENTS
    for moment_s, expected in ((1.0, 20.0), (3.0, 60.0), (5.0, 100.0), (50.0, 100.0)):
        assert at(found, moment_s) == pytest.approx(expected, abs=20 * 0.21)


def test_a_longer_tail_fills_later() -> None:
    """Half the answers of 20 steps, half of 180: after 5 s all of the first and so many of the others."""
    found = filling(decoding([20.0, 180.0], lambda _: 0.05), rate_per_s=20.0, late_s=10.0)
    assert at(found, 5.0) == pytest.approx(10 * 1 + 10 * 5, abs=5)
    assert found[-1] == pytest.approx(20 * 100 * 0.05, abs=5)


def test_steps_that_lengthen_with_the_batch_end_where_little_s_law_has_it() -> None:
    """n = rate x 100 steps x (10 ms + n x 0.25 ms): 20 x (1 + n / 40), so that n = 40."""
    found = filling(decoding([100.0], lambda batch: 0.01 + 0.00025 * batch), rate_per_s=20.0, late_s=10.0)
    assert found[-1] == pytest.approx(40.0, rel=0.05)
    assert at(found, 1.0) == pytest.approx(20.0, rel=0.2)


def test_a_window_grows_with_what_is_lacking_at_its_start() -> None:
    """Steady at once, chance alone: 2 x sqrt(2 N) of at most 3 x sqrt(rate x W), or of 2% of rate x W."""
    slow = window_s(decoding([100.0], lambda _: 0.05), 20.0, 10.0)
    assert slow == pytest.approx((2 * np.sqrt(200) / 3) ** 2 / 20, rel=0.1)
    many = window_s(decoding([100.0], lambda _: 0.05, instances=1000), 20_000.0, 10.0)
    assert many == pytest.approx(2 * np.sqrt(200_000) / 0.02 / 20_000, rel=0.1)
    tail = window_s(decoding([100.0] * 9 + [1000.0], lambda _: 0.05), 20.0, 10.0)
    assert tail > 10 * slow
