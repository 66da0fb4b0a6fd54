"""Step times read from measured operators: interpolated between the points that were measured.

Attention of a batch of decodes is linear in its mean context between the measured contexts, so that a span of decode
steps is an arithmetic series from one knot to the next. Of what lies between two measured batch sizes a weighted mean
is taken. In a step that also prefills, decodes add to the prompts' attention what they were measured to add to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from math import floor
from typing import Any

from kvsim.pickling import by_fields
from kvsim.steptime.curves.affine import Line
from kvsim.steptime.curves.base import ENDLESS, StepTime
from kvsim.steptime.curves.coefficients import Coefficients, Knots

Grid = list[list[float]]


@dataclass(frozen=True)
class Tables:
    """Times of a whole step on one instance, over all its layers; axes ascend, two values or more each."""

    dense: Knots
    """By the step's tokens: all that they decide, all-reduces and the host's overhead included."""
    head: Knots
    """By the step's sequences: output projection and sampling."""
    prefill_chunks: list[float]
    prefill_prefixes: list[float]
    prefill_s: Grid
    """Attention of one chunk behind a prefix."""
    decode_seqs: list[float]
    decode_contexts: list[float]
    decode_s: Grid
    """Attention of so many sequences that decode on contexts of so many tokens each."""
    mixed_chunks: list[float]
    mixed_s: list[Grid]
    """What such decodes add to the attention of so many prefilled tokens; inner axes as of ``decode_s``."""
    launch_s: float
    """Seconds of an attention kernel with next to nothing to do: contained in each chunk's time, paid once a step."""
    straggler_s_per_token: float
    straggler_min_seqs: float
    straggler_mixed_s_per_token: float

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    def scaled(self, factor: float, decode_factor: float = 1.0) -> Tables:
        """Every time multiplied by ``factor``, the attention of decodes by ``decode_factor`` besides."""
        if factor == decode_factor == 1:
            return self
        decoding = factor * decode_factor
        return replace(
            self,
            dense=tuple((tokens, time_s * factor) for tokens, time_s in self.dense),
            head=tuple((seqs, time_s * factor) for seqs, time_s in self.head),
            prefill_s=_times(self.prefill_s, factor),
            decode_s=_times(self.decode_s, decoding),
            mixed_s=[_times(grid, decoding) for grid in self.mixed_s],
            launch_s=self.launch_s * factor,
            straggler_s_per_token=self.straggler_s_per_token * decoding,
            straggler_mixed_s_per_token=self.straggler_mixed_s_per_token * decoding,
        )


def _times(grid: Grid, factor: float) -> Grid:
    return [[value * factor for value in row] for row in grid]


class TableStepTime(StepTime):
    """How long one engine step takes, and spans of decode steps, from ``Tables``."""

    __slots__ = ("_batches", "_beside", "_contexts", "_dense", "_head", "_padded", "tables")

    def __init__(self, tables: Tables, coefficients: Coefficients, capture_sizes: tuple[int, ...] = ()) -> None:
        """``coefficients``: a formula fitted to the same tables. ``capture_sizes``: as for ``AffineStepTime``."""
        super().__init__(coefficients)
        self.tables, self._padded = tables, capture_sizes
        self._dense, self._head = Line(tables.dense), Line(tables.head)
        self._contexts = tables.decode_contexts
        self._batches: dict[int, list[float]] = {}
        """For batch sizes that were asked for: attention at each of the contexts."""
        self._beside: dict[int, list[list[float]]] = {}
        """For batch sizes that were asked for: what they add to each of the ``mixed_chunks``."""

    def __reduce__(self) -> tuple[Any, ...]:
        return TableStepTime, (self.tables, self.coefficients, self._padded)

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence of a decode batch matters to its step time."""
        return self.tables.straggler_s_per_token > 0 or self.tables.straggler_mixed_s_per_token > 0

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Seconds of one chunk's attention, less the launch; beyond the measured chunks, of its parts in turn."""
        tables, most = self.tables, int(self.tables.prefill_chunks[-1])
        work_s = 0.0
        while chunk_tokens > most:
            work_s += self._prefill_s(most, prefix_tokens) - tables.launch_s
            chunk_tokens, prefix_tokens = chunk_tokens - most, prefix_tokens + most
        return work_s + self._prefill_s(chunk_tokens, prefix_tokens) - tables.launch_s

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step: ``tokens`` over ``seqs`` sequences, of which ``decodes`` decode on ``kv_tokens`` in all."""
        time_s = self._dense_s(tokens) + self._head.at(seqs) + self.tables.launch_s + chunk_work
        if not decodes:
            return time_s
        mean_tokens = kv_tokens / decodes
        straggle_s = self.tables.straggler_mixed_s_per_token * max(0.0, longest_tokens - mean_tokens)
        return time_s + self._beside_s(tokens - decodes, decodes, mean_tokens) + straggle_s

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """First step's time, the growth per step, and the steps to the next measured context, for a fixed batch."""
        row, contexts, tables = self._batch(decodes), self._contexts, self.tables
        mean_tokens = kv_tokens / decodes
        segment = segment_of(contexts, mean_tokens)
        start, start_s, goes_on = contexts[segment], row[segment], segment == len(contexts) - 2
        slope_s = (row[segment + 1] - start_s) / (contexts[segment + 1] - start)
        if goes_on and slope_s < 0:
            goes_on = mean_tokens >= contexts[-1]
            if goes_on:
                start, start_s, slope_s = contexts[-1], row[-1], 0.0
        first_s = self._dense_s(decodes) + self._head.at(decodes) + start_s + slope_s * (mean_tokens - start)
        if decodes >= tables.straggler_min_seqs:
            first_s += tables.straggler_s_per_token * max(0.0, longest_tokens - mean_tokens)
        if goes_on:
            return first_s, slope_s, ENDLESS
        return first_s, slope_s, max(1, floor(contexts[segment + 1] - mean_tokens) + 1)

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer a step takes that verifies so many further tokens."""
        logits_s = self._head.at(seqs + drafts) - self._head.at(seqs) if with_logits else 0.0
        return self._dense_s(tokens + drafts) - self._dense_s(tokens) + logits_s

    def _dense_s(self, tokens: int) -> float:
        if self._padded:
            place = bisect_left(self._padded, tokens)
            tokens = self._padded[place] if place < len(self._padded) else tokens
        return self._dense.at(tokens)

    def _prefill_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        tables = self.tables
        row = segment_of(tables.prefill_chunks, chunk_tokens)
        weight = share_of(tables.prefill_chunks, row, chunk_tokens)
        low_s = read(tables.prefill_prefixes, tables.prefill_s[row], prefix_tokens)
        high_s = read(tables.prefill_prefixes, tables.prefill_s[row + 1], prefix_tokens)
        return low_s + weight * (high_s - low_s)

    def _batch(self, decodes: int) -> list[float]:
        row = self._batches.get(decodes)
        if row is None:
            row = self._batches[decodes] = blended(self.tables.decode_seqs, self.tables.decode_s, decodes)
        return row

    def _beside_s(self, prefilled_tokens: int, decodes: int, mean_tokens: float) -> float:
        tables = self.tables
        rows = self._beside.get(decodes)
        if rows is None:
            rows = [blended(tables.decode_seqs, grid, decodes) for grid in tables.mixed_s]
            self._beside[decodes] = rows
        if prefilled_tokens <= tables.mixed_chunks[0]:
            return read(self._contexts, rows[0], mean_tokens)
        row = segment_of(tables.mixed_chunks, prefilled_tokens)
        low_s, high_s = read(self._contexts, rows[row], mean_tokens), read(self._contexts, rows[row + 1], mean_tokens)
        return between(low_s, high_s, share_of(tables.mixed_chunks, row, prefilled_tokens))


def segment_of(axis: list[float], place: float) -> int:
    """The lower of the two neighbours between which ``place`` is interpolated, or from which it goes on."""
    return min(max(bisect_right(axis, place) - 1, 0), len(axis) - 2)


def share_of(axis: list[float], segment: int, place: float) -> float:
    """Weight of the segment's upper end; beyond 0 and 1 outside the axis."""
    return (place - axis[segment]) / (axis[segment + 1] - axis[segment])


def read(axis: list[float], values: list[float], place: float) -> float:
    segment = segment_of(axis, place)
    return between(values[segment], values[segment + 1], share_of(axis, segment, place))


def between(low: float, high: float, weight: float) -> float:
    """A value between two neighbours; where they fall, what lies beyond is as the last one: a decrease ends."""
    return high if weight > 1 and high < low else low + weight * (high - low)


def blended(axis: list[float], grid: Grid, place: float) -> list[float]:
    """A row between two rows of a grid, or beyond its last one. Never below 0, and above the first row by weight."""
    segment = segment_of(axis, place)
    weight = share_of(axis, segment, place)
    pairs = zip(grid[segment], grid[segment + 1], strict=True)
    return [max(0.0, between(low, high, weight)) for low, high in pairs]
