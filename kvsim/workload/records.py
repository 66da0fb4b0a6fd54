"""One record of a trace file, and the questions a format asks it. Answers are checked; errors name the line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from kvsim.errors import WorkloadError, nearest

# What a column of 32-bit token counts holds; far beyond any context length.
MAX_TOKENS = 2**31 - 1
MAX_TIME = 2**62
# ASCII digits alone: Python and what reads whole columns must agree on what a number is.
WHOLE_NUMBER = r"[+-]?[0-9]+"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"


class Record:
    """The values of one row with its place in the file."""

    __slots__ = ("head", "line", "path", "values")

    def __init__(
        self, path: Path, line: int, values: Mapping[str, object], head: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """``head``: what the document says of all its rows, before them."""
        self.path = path
        self.line = line
        self.values = values
        self.head = head

    def error(self, field: str, value: object, allowed: str) -> WorkloadError:
        """The one line to raise for a value that makes no sense."""
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return WorkloadError(f"{self.path}:{self.line}: {field} is {shown}; allowed: {allowed}")

    def value(self, field: str) -> object:
        """The value of a field that must be there."""
        try:
            return self.values[field]
        except KeyError:
            known = nearest(field, self.values) if self.values else "the row is empty"
            raise WorkloadError(f"{self.path}:{self.line}: no field '{field}' ({known})") from None

    def tokens(self, field: str) -> int:
        """A count of tokens. It may be 0 or negative here: what such a row means is judged by the reader."""
        value = self.value(field)
        if type(value) is int:
            count = value
        elif type(value) is str and value.isascii() and value.isdecimal() and len(value) < 11:
            count = int(value)
        else:
            number = _number(value)
            if number is None or number != math.floor(number):
                raise self.error(field, value, "a whole number of tokens >= 0")
            count = int(number)
        if not 0 <= count <= MAX_TOKENS:
            raise self.error(field, value, f"0 to {MAX_TOKENS} tokens")
        return count

    def time(self, field: str) -> int | float:
        """A point in time as a number, in whatever unit the format says; whole numbers stay exact."""
        value = self.value(field)
        number = value if type(value) is int else _number(value)
        if number is None or not 0 <= number <= MAX_TIME:
            raise self.error(field, value, "a finite number >= 0")
        return number


def _number(value: object) -> int | float | None:
    """A finite number from JSON or from the text of a CSV field, else ``None``. Truth values are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = value if isinstance(value, int | float) else _parsed(value.strip())
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def _parsed(text: str) -> int | float:
    """Digits alone stay whole; underscores and words that Python would accept are no numbers in a trace."""
    if re.fullmatch(WHOLE_NUMBER, text):
        return int(text)
    if not re.fullmatch(NUMBER, text):
        raise ValueError(text)
    return float(text)
