"""Words of studies where a figure has no interval, or is none."""

from __future__ import annotations

import math

import pytest
from answers import apart, around

from kvsim.study.intervals import Interval
from kvsim.study.pictures import bars_of
from kvsim.study.words import change, plus_minus, said_of, saved_width


def test_one_run_has_no_interval_and_says_so() -> None:
    assert plus_minus(around(20.0, math.inf)) == "20.0"
    assert plus_minus(around(20.0, 1.5)) == "20.0 ± 1.50"
    assert change(apart(20.0, "open", math.inf)) == "+20.0, one run"
    assert change(apart(20.0, half_width=1.5)) == "+20.0 ± 1.50"


def test_what_was_not_measured_is_a_dash_and_a_gap() -> None:
    nothing = Interval(math.nan, math.nan)
    assert plus_minus(nothing) == "-"
    assert change(apart(math.nan, "open", math.nan)) == "-"
    means, widths = bars_of([nothing, around(2.0, math.inf), around(3.0, 0.5)])
    assert math.isnan(means[0]) and means[1:] == [2.0, 3.0] and widths == [0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("half_width", "said", "saved"), [(1.0, "-40.0 ms", "40.0"), (9.0, "-40.0 ± 9.00 ms", "40.0 ± 9.00")]
)
def test_a_difference_known_narrowly_enough_stands_alone(half_width: float, said: str, saved: str) -> None:
    found = apart(-40.0, half_width=half_width)
    assert (said_of(found), saved_width(found)) == (said, saved)
    assert said_of(found.scaled(100), " points").startswith("-4,000")
