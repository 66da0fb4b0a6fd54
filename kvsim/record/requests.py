"""The log of completed requests: one compact row each."""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np

from kvsim.record.result import COLUMNS, Table

_ROW: Final = Struct(f"{len(COLUMNS)}d")
_FIRST_ROWS: Final = 1024


class RequestLog:
    """Rows of ``COLUMNS``, 8 bytes a value."""

    def __init__(self) -> None:
        self._rows = bytearray(_FIRST_ROWS * _ROW.size)
        self._end = 0

    def add(self, row: tuple[float, ...]) -> None:
        """``row`` holds one value per column."""
        if self._end == len(self._rows):
            self._rows += bytes(max(len(self), _FIRST_ROWS) // 2 * _ROW.size)
        _ROW.pack_into(self._rows, self._end, *row)
        self._end += _ROW.size

    def __len__(self) -> int:
        return self._end // _ROW.size

    def table(self) -> Table:
        """The columns as arrays; they share the log's memory, which can grow no more as long as they are there."""
        rows = np.frombuffer(self._rows, dtype=np.float64, count=self._end // 8).reshape(-1, len(COLUMNS))
        return {name: rows[:, index] for index, name in enumerate(COLUMNS)}
