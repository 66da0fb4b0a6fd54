"""The log of completed requests."""

from __future__ import annotations

import numpy as np

from kvsim.record.result import COLUMNS
from kvsim.sim.log.requests import RequestLog


def test_every_row_comes_back_however_many_there_are() -> None:
    log = RequestLog()
    assert len(log) == len(log.table()[COLUMNS[0]]) == 0
    log = RequestLog()
    for row in range(5_000):
        log.add(tuple(float(row + column) for column in range(len(COLUMNS))))
    assert len(log) == 5_000
    for column, values in enumerate(log.table().values()):
        assert np.array_equal(values, np.arange(5_000) + column)
