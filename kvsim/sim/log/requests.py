"""The log of completed requests: one compact row each."""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Final

import numpy as np

from kvsim.record.result import COLUMNS, Table

_ROW: Final = Struct(f"{len(COLUMNS)}d")


class RequestLog:
    """Rows of ``COLUMNS``, 8 bytes a value."""

    def __init__(self) -> None:
        self._rows = array("d")

    def add(self, row: tuple[float, ...]) -> None:
        """``row`` holds one value per column."""
        # Packed first: an array that is extended takes values one by one, in three times the time.
        self._rows.frombytes(_ROW.pack(*row))

    def __len__(self) -> int:
        return len(self._rows) // len(COLUMNS)

    def table(self) -> Table:
        """The columns as arrays; they share the log's memory."""
        rows = np.frombuffer(self._rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        return {name: rows[:, index] for index, name in enumerate(COLUMNS)}
