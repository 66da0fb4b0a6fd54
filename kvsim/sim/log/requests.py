"""The log of completed requests: one compact row each."""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Final

import numpy as np
import numpy.typing as npt

from kvsim.record.result import COLUMNS, Table
from kvsim.sim.engine.sequence import RequestState

Floats = npt.NDArray[np.float64]

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

    def rows(self) -> Floats:
        """All of them; they share the log's memory."""
        found: Floats = np.frombuffer(self._rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        return found

    def first_tokens_since(self, row: int) -> list[tuple[float, float]]:
        """When the requests from a row on came, and when their first token did."""
        rows, width = self._rows, len(COLUMNS)
        return [(rows[at + 1], rows[at + 2]) for at in range(row * width, len(rows), width)]

    def table(self) -> Table:
        """The columns as arrays; they share the log's memory."""
        return table_of(self.rows())


def table_of(rows: Floats) -> Table:
    """The columns of rows of ``COLUMNS``, which share their memory."""
    return {name: rows[:, index] for index, name in enumerate(COLUMNS)}


def columns_of(rows: Floats) -> Table:
    """The columns of rows of ``COLUMNS``, to be kept: each by itself, and one that is the same throughout as a view of
    one number, which cannot be written to."""
    return {name: _kept(rows[:, index]) for index, name in enumerate(COLUMNS)}


def _kept(column: Floats) -> Floats:
    bits = column.view(np.int64)  # so that zeros keep their signs, and NaN equals itself
    if len(column) and (bits == bits[0]).all():
        return np.broadcast_to(column[0], column.shape)
    return np.ascontiguousarray(column)


def request_row(state: RequestState, finish_s: float, hit_tokens: int, loaded_tokens: int) -> tuple[float, ...]:
    """A request whose last token came at ``finish_s``, as a row of ``COLUMNS``. ``hit_tokens``: of the engine's own
    cache, ``loaded_tokens``: from tiers.
    """
    request = state.request
    return (
        request.request_id,
        request.arrival_s,
        state.first_token_s,
        finish_s,
        request.prompt_tokens,
        state.output_tokens,
        hit_tokens,
        loaded_tokens,
        state.computed_tokens,
        state.recomputed_tokens,
        state.preemptions,
        state.prefill_instance,
        state.decode_instance,
        state.transferred_bytes,
        state.retry_s,
        state.proxy_s,
        state.queue_s,
        state.interference_s,
        state.preemption_s,
        state.tier_load_s,
        state.prefill_s,
        state.transfer_s,
        state.decode_wait_s,
        state.first_decode_s,
    )
