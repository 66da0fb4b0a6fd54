"""The largest number within a limit, where it is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.capacity.decode_residency import largest

LIMITS = st.floats(0.01, 0.99)
MOST = st.sampled_from((1.0, 64.0, 8192.0))


def counted(rising: Callable[[float], float]) -> tuple[Callable[[float], float], list[float]]:
    asked: list[float] = []

    def told(x: float) -> float:
        assert x > 0, "some of what is asked divides by it"
        asked.append(x)
        return rising(x)

    return told, asked


@given(MOST, LIMITS, st.floats(0.1, 9), st.floats(0, 9))
def test_a_line_is_met_at_once(most: float, share: float, slope: float, above: float) -> None:
    told, asked = counted(lambda x: above + slope * x)
    limit = above + slope * share * most
    assert largest(told, limit, most) == pytest.approx(share * most, rel=1e-12 * (1 + above / slope))
    assert len(asked) <= 60


@given(MOST, LIMITS)
def test_curves_are_met(most: float, share: float) -> None:
    wanted = share * most
    for rising in (
        lambda x: x * x,
        math.sqrt,
        lambda x: x / (3 + x),
        lambda x: 1 - math.exp(-3 * x / most),
        lambda x: x**9,
    ):
        told, asked = counted(rising)
        assert largest(told, rising(wanted), most) == pytest.approx(wanted, rel=1e-9)
        assert len(asked) <= 60


@given(MOST, LIMITS)
def test_a_jump_is_met_from_below(most: float, share: float) -> None:
    jump = share * most
    found = largest(lambda x: x + (1e9 if x > jump else 0.0), 2 * most, most)
    assert found == pytest.approx(jump, rel=1e-12) and found <= jump


def test_all_and_nothing() -> None:
    assert largest(lambda x: x, 5.0, 5.0) == 5.0
    assert largest(lambda x: x, 9.0, 5.0) == 5.0
    assert largest(lambda x: 1 + x, 1.0, 5.0) == pytest.approx(0, abs=1e-12)
    assert largest(lambda x: 1 + x, -3.0, 5.0) == 0.0
    assert largest(lambda x: x if x < 3 else math.inf, 4.0, 5.0) == pytest.approx(3)
    assert largest(lambda x: x if x < 3 else math.nan, 4.0, 5.0) == pytest.approx(3)
    assert largest(lambda x: math.inf, math.inf, 5.0) == 5.0
