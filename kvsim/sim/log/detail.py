"""What engines, links and tiers tell of a run that is to be looked at closely; nobody tells anything otherwise."""

from __future__ import annotations

from array import array
from struct import Struct
from typing import Final

import numpy as np

from kvsim import room
from kvsim.record.binned import Floats, integrals
from kvsim.record.detail import (
    CHUNK_COLUMNS,
    GAP_COLUMNS,
    HELD,
    LOAD_COLUMNS,
    QUEUED,
    SERVED_COLUMNS,
    STEP_COLUMNS,
    TRANSFER_COLUMNS,
)
from kvsim.record.result import Table

BINS: Final = 600
"""Most bins of time."""
_FIRST_BIN_S: Final = 1e-3
_LEVEL: Final = Struct("4d")
_CHECK_ROWS: Final = 1 << 16
"""Rows after which it is looked whether there is room for as many more."""


class Rows:
    """Rows of numbers, 8 bytes a value."""

    __slots__ = ("_columns", "_count", "_packer", "_rows")

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._packer = Struct(f"{len(columns)}d")
        self._rows = array("d")
        self._count = 0

    def add(self, row: tuple[float, ...]) -> None:
        """``row`` holds one value per column. Raises ``CapacityError`` where there is no room for more of them."""
        self._rows.frombytes(self._packer.pack(*row))
        self._count += 1
        if self._count % _CHECK_ROWS == 0:
            # An array that is full is copied to a larger one.
            needed_bytes = 2 * self._packer.size * self._count
            room.require(needed_bytes, f"keeping more than {self._count:,} rows of the run's steps or transfers")

    def __len__(self) -> int:
        return self._count

    def table(self) -> Table:
        """The columns as arrays."""
        rows = np.frombuffer(self._rows, dtype=np.float64).reshape(-1, len(self._columns))
        return {name: rows[:, index].copy() for index, name in enumerate(self._columns)}


class Levels:
    """What instances hold, integrated over equal bins of time, whose width doubles where a run goes on beyond them."""

    __slots__ = ("_bins", "_rows", "_when_folded", "bin_s", "instances")

    def __init__(self) -> None:
        self.instances = 0
        """How many there are; to be known before the first level."""
        self.bin_s = _FIRST_BIN_S
        self._rows = bytearray()
        self._when_folded = 0
        self._bins: Floats = np.zeros((0, BINS))

    def add(self, kind: int, instance: int, start_s: float, end_s: float, level: float) -> None:
        """An instance held so much of one kind from ``start_s`` to ``end_s``."""
        self._rows += _LEVEL.pack(kind * self.instances + instance, start_s, end_s, level)
        if len(self._rows) > self._when_folded:
            self.fold()

    def fold(self) -> None:
        """Put what was told into the bins."""
        if not len(self._bins):
            self._bins = np.zeros((2 * self.instances, BINS))
            # As many rows at a time as there are bins: folding costs something for each of either.
            self._when_folded = _LEVEL.size * max(8_000, self._bins.size)
        rows = np.frombuffer(bytes(self._rows), dtype=np.float64).reshape(-1, 4)
        self._rows = bytearray()
        if not len(rows):
            return
        series, start_s, end_s, level = rows.T
        while float(end_s.max()) > self.bin_s * BINS:
            pairs = self._bins.reshape(len(self._bins), BINS // 2, 2).sum(axis=2)
            self._bins = np.concatenate((pairs, np.zeros_like(pairs)), axis=1)
            self.bin_s *= 2
        shape = (2 * self.instances, BINS)
        self._bins += integrals(series.astype(np.int64), start_s, end_s, level, self.bin_s, shape)

    def table(self, end_s: float) -> Floats:
        """By kind, instance and bin, up to ``end_s``."""
        self.fold()
        bins = min(BINS, max(1, int(np.ceil(end_s / self.bin_s))))
        return self._bins.reshape(2, self.instances, BINS)[:, :, :bins].copy()


class EngineDetail:
    """What one engine tells."""

    __slots__ = (
        "_chunks",
        "_gaps",
        "_levels",
        "_planned",
        "_query",
        "_queued",
        "_queued_s",
        "_steps",
        "forwards",
        "instance",
        "peak_blocks",
    )

    def __init__(self, instance: int, log: DetailLog, *, forwards: bool) -> None:
        """``instance``: its number among all. ``forwards``: of one that ends with a prompt: whether the first token
        goes with the KV.
        """
        self.instance, self.forwards = instance, forwards
        self._steps, self._chunks, self._gaps, self._levels = log.steps, log.chunks, log.gaps, log.levels
        self.peak_blocks = 0
        self._planned: list[tuple[int, int, int, int, int, int]] = []
        """By step that is scheduled and has not ended: KV tokens, queried and hit ones, requests that run and that
        wait, blocks.
        """
        self._queued, self._queued_s = 0, 0.0
        self._query = (0, 0)

    def planned(self, kv_tokens: int, query: tuple[int, int], running: int, waiting: int, blocks: int) -> None:
        """A step is scheduled; ``query``: tokens looked up so far, and of them found."""
        before, self._query = self._query, query
        row = (kv_tokens, query[0] - before[0], query[1] - before[1], running, waiting, blocks)
        self._planned.append(row)

    def put_off(self, kv_tokens: int, waiting: int, blocks: int) -> None:
        """Steps went before the one scheduled last: it reads so many more tokens, and finds other levels."""
        before = self._planned[-1]
        self._planned[-1] = (before[0] + kv_tokens, before[1], before[2], before[3], waiting, blocks)

    def ran(
        self,
        start_s: float,
        end_s: float,
        steps: int,
        first_s: float,
        slope_s: float,
        prefill_tokens: int,
        prefill_seqs: int,
        decode_seqs: int,
        completed: int,
        apart: int,
    ) -> None:
        """The span that begins with the step scheduled first has run. ``completed``: prompts in it that gave a token;
        ``apart``: decoding sequences whose first token in it came later than a step after the one before, or is none's.
        """
        kv_tokens, query_tokens, hit_tokens, running, waiting, blocks = self._planned.pop(0)
        decoded = decode_seqs * steps
        growth = decode_seqs * (steps * (steps - 1) // 2)
        self._steps.add(
            (
                self.instance,
                start_s,
                end_s,
                steps,
                first_s,
                slope_s,
                prefill_tokens,
                prefill_seqs,
                decode_seqs,
                decoded + completed,
                decoded - apart,
                query_tokens,
                hit_tokens,
                kv_tokens * steps + growth,
                running,
                waiting,
                blocks,
            )
        )

    def chunk(self, request_id: int, before: int, tokens: int) -> None:
        """The span told of next computes a part of a prompt."""
        self._chunks.add((request_id, len(self._steps), before, tokens))

    def gap(self, interval_s: float) -> None:
        """A token came ``interval_s`` after its sequence's previous one, which was not in the step before."""
        self._gaps.add((self.instance, interval_s))

    def held_in_all(self, start_s: float, end_s: float, blocks: int) -> None:
        """So many blocks were in use from ``start_s`` to ``end_s``."""
        if end_s > start_s:
            self.held(start_s, end_s, blocks)
            self.peak_blocks = max(self.peak_blocks, blocks)

    def held(self, start_s: float, end_s: float, blocks: int) -> None:
        """So many blocks, beside those told of already, were in use from ``start_s`` to ``end_s``."""
        self._levels.add(HELD, self.instance, start_s, end_s, blocks)

    def queued(self, now_s: float, requests: int) -> None:
        """So many requests wait from now on."""
        if requests != self._queued:
            self.queued_until(now_s)
            self._queued = requests

    def queued_until(self, now_s: float) -> None:
        """The requests told of last have waited until now."""
        if self._queued and now_s > self._queued_s:
            self._levels.add(QUEUED, self.instance, self._queued_s, now_s, self._queued)
        self._queued_s = now_s


class DetailLog:
    """All that is kept of a run beside its requests."""

    __slots__ = ("chunks", "engines", "gaps", "levels", "loads", "served", "steps", "transfers")

    def __init__(self) -> None:
        self.steps, self.chunks, self.gaps = Rows(STEP_COLUMNS), Rows(CHUNK_COLUMNS), Rows(GAP_COLUMNS)
        self.transfers, self.loads, self.served = Rows(TRANSFER_COLUMNS), Rows(LOAD_COLUMNS), Rows(SERVED_COLUMNS)
        self.levels = Levels()
        self.engines: dict[int, EngineDetail] = {}

    def engine(self, number: int, *, forwards: bool = False) -> EngineDetail:
        """The detail of the engine of that number among all; all are to be made before time begins."""
        found = EngineDetail(number, self, forwards=forwards)
        self.engines[number] = found
        self.levels.instances = len(self.engines)
        return found
