"""Spans of steps as engines tell of them, packed: this runs while the simulation does."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

FIELDS: Final = 6
_ROW: Final = Struct(f"{FIELDS}d")
_ROW_BYTES: Final = 8 * FIELDS
_MOST_BYTES: Final = 8_000 * _ROW_BYTES


class StepSpans:
    """Rows of start, end, first step and slope in seconds, steps and sequences; 8 bytes a value."""

    __slots__ = ("_end", "_rows", "_when_full")

    def __init__(self, when_full: Callable[[], None]) -> None:
        """``when_full`` is called when there is no room any more, and must make use of the rows ``taken``."""
        self._rows = bytearray(_MOST_BYTES)
        self._end = 0
        self._when_full = when_full

    def add(self, start_s: float, end_s: float, first_s: float, slope_s: float, steps: int, sequences: int) -> None:
        """Add a span: its ``steps`` steps took first, first + slope, ... seconds. In each of them ``sequences``
        sequences whose inter-token latencies count got a token, one step after their previous one.
        """
        _ROW.pack_into(self._rows, self._end, start_s, end_s, first_s, slope_s, float(steps), float(sequences))
        self._end += _ROW_BYTES
        if self._end == _MOST_BYTES:
            self._when_full()

    def taken(self) -> memoryview:
        """Take the rows so far out, packed; they are there until more are added."""
        end, self._end = self._end, 0
        return memoryview(self._rows)[:end]
