"""Figures in columns: as many digits as there is room for, and a space before each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.cli.validate_text import error, figure, percentage

VALUES = st.floats(-1e12, 1e12, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (figure(1234.5, 10), "     1,234"),
        (figure(123_456_789.0, 10), " 123456789"),
        (figure(1_234_567_890.0, 10), "     1.2e9"),
        (figure(None, 10), "         -"),
        (figure(0.12345, 10), "     0.123"),
        (figure(0.0001, 10), "    1.0e-4"),
        (figure(0.0, 10), "     0.000"),
        (percentage(99.94, 6), " +99.9"),
        (percentage(100.4, 6), "  +100"),
        (percentage(100.4, 6, signed=False), " 100.4"),
        (percentage(9999.0, 6), " +9999"),
        (percentage(12_345.0, 6), "  +1e4"),
        (percentage(12_345.0, 6, signed=False), " 12345"),
        (percentage(3_123_456.0, 6, signed=False), " 3.1e6"),
        (error(1234.56, 12), "   +1,234.6%"),
        (error(123_456_789.0, 12), "     +1.2e8%"),
        (error(12_345.6, 8), " +1.2e4%"),
    ],
)
def test_digits_that_there_is_room_for(text: str, expected: str) -> None:
    assert text == expected


@given(VALUES, st.sampled_from([6, 7, 8, 10, 12]))
def test_no_figure_touches_the_column_before_it(value: float, width: int) -> None:
    for text in (percentage(value, width), percentage(value, width, signed=False)):
        assert len(text) == width and text[0] == " "
    if width >= 7:
        assert len(error(value, width)) == width and error(value, width)[0] == " "
        assert len(figure(value, width)) == width and figure(value, width)[0] == " "
