"""Raising a trace's rate by running copies of it side by side.

Squeezing an hour of arrivals into seconds would let a turn arrive before the answer it replies to. Copies keep every
gap. Copy 0 is the trace as it stands; copy k > 0 is turned around the clock by a seeded offset, so that bursts of the
copies do not coincide. What wraps from the end of the period to its start takes a namespace of its own, else a request
could hit content from its own future.

Short runs that are repeated take parts of such copies instead, each from another moment on and as long as asked for: a
copy that ends begins again, and every time round has a namespace of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.graph import ranges
from kvsim.workload.workload import Floats, Ints, Workload

COPY_BYTES = 100
"""Memory that a copy takes while it is looked at, beside its requests."""


@dataclass(frozen=True)
class _Selection:
    """The arrivals that are kept: source row, namespace (two per copy) and time, in arrival order."""

    row: Ints
    namespace: Ints
    arrival_s: Floats


class _Clock:
    """Where the copies of one trace stand: every copy is the trace turned around a period by its offset."""

    def __init__(self, time_s: Floats, copies: int, seed: int) -> None:
        self.period_s = _period_s(time_s)
        self.time_s = time_s
        random = np.random.default_rng(seed)
        # Stratified: each copy has its share of the period, so that a few copies even out its ups and downs as well.
        share_s = self.period_s / copies
        jitter = random.uniform(-0.5, 0.5, copies - 1)
        self.offset_s = np.concatenate(([0.0], (np.arange(1, copies) + jitter) * share_s))
        self.first_wrapped = np.searchsorted(time_s, self.period_s - self.offset_s, side="left")

    def arrived(self, until_s: float) -> tuple[Ints, Ints]:
        """Per copy, how many wrapped and how many unwrapped requests have arrived at ``until_s``."""
        upper = np.searchsorted(self.time_s, until_s + self.period_s - self.offset_s, side="right")
        direct = np.searchsorted(self.time_s, until_s - self.offset_s, side="right")
        wrapped = np.maximum(upper - self.first_wrapped, 0)
        return wrapped.astype(np.int64), np.minimum(direct, self.first_wrapped).astype(np.int64)

    def _count(self, until_s: float) -> int:
        """How many have arrived; by whichever there are fewer of, copies or the rows of one."""
        if len(self.offset_s) <= len(self.time_s):
            wrapped, direct = self.arrived(until_s)
            return int(wrapped.sum() + direct.sum())
        back_s = self.period_s - self.time_s
        turned = np.searchsorted(self.offset_s, back_s, side="left")
        direct = np.minimum(np.searchsorted(self.offset_s, until_s - self.time_s, side="right"), turned)
        wrapped = np.maximum(np.searchsorted(self.offset_s, until_s + back_s, side="right") - turned, 0)
        return int(direct.sum() + wrapped.sum())

    def time_of(self, requests: int) -> float:
        """A time by which at least ``requests`` have arrived, and hardly more: bisection over the period."""
        low, high = 0.0, self.period_s
        for _ in range(60):
            middle = (low + high) / 2
            if self._count(middle) < requests:
                low = middle
            else:
                high = middle
        # Rounding of shifted times must not lose an arrival at the boundary.
        return high * (1 + 1e-9)


def replicated(source: Workload, copies: int, seed: int, horizon_requests: int | None = None) -> Workload:
    """``copies`` copies of ``source`` that share no content, with the ids of requests and sessions renumbered.

    Only the earliest ``horizon_requests`` arrivals are made; ``None`` makes them all. Time starts at the first arrival
    of copy 0. Raises ``WorkloadError`` for fewer than one copy, or for a trace without a span to turn it around.
    """
    if copies < 1:
        raise WorkloadError(f"number of replicas is {copies}; allowed: 1 or more")
    total = len(source) * copies
    horizon = total if horizon_requests is None else min(horizon_requests, total)
    if copies == 1:
        return source.limited(horizon)
    _check_shiftable(source)
    _check_room(source, copies, horizon)
    kept = _selected(source, copies, seed, horizon)
    note = f"{copies} time-shifted replicas that share nothing, {len(kept.row):,} earliest requests of {total:,}"
    return _gathered(source, kept, f"{note}; hit rates are those of one copy")


def part(source: Workload, copies: int, seed: int, num_requests: int) -> Workload:
    """``num_requests`` arrivals in a row of ``copies`` copies of ``source``, each laid end to end without end.

    Where the copies stand at the first arrival is drawn with ``seed``, evenly over the trace. No two times round share
    content. Raises ``WorkloadError`` for fewer than one copy or request, or for a trace that cannot be shifted in time.
    """
    if copies < 1 or num_requests < 1:
        raise WorkloadError(f"{num_requests} requests of {copies} copies; allowed: 1 or more of each")
    _check_shiftable(source)
    _check_room(source, copies, num_requests)
    kept = _in_a_row(source, copies, seed, num_requests)
    rounds = -(-num_requests // (copies * len(source)))
    laid = f", laid end to end {rounds:,} times" if rounds > 1 else ""
    note = f"{num_requests:,} requests in a row of {copies:,} copies that share nothing{laid}, from a random moment on"
    return _gathered(source, kept, note)


def _check_room(source: Workload, copies: int, num_requests: int) -> None:
    each_bytes = _row_bytes(source)
    most = room.about(room.most(COPY_BYTES + each_bytes * num_requests / copies))
    what = f"{copies:,} replicas of {source.info.source}, {num_requests:,} requests"
    room.require(copies * COPY_BYTES + num_requests * each_bytes, what, f"up to about {most} replicas would fit")


def _check_shiftable(source: Workload) -> None:
    if source.max_concurrency is not None:
        raise WorkloadError(f"{source.info.source}: a fixed number of requests in flight cannot be replicated in time")
    if source.span_s == 0:
        raise WorkloadError(f"{source.info.source}: {source.without_rate}, so replicas cannot be shifted in time")


def _in_a_row(source: Workload, copies: int, seed: int, num_requests: int) -> _Selection:
    time_s, rows = source.arrival_s - source.arrival_s[0], len(source)
    period_s = _period_s(time_s)
    random = np.random.default_rng(seed)
    shares = random.uniform() + (np.arange(copies) + random.uniform(-0.5, 0.5, copies)) / copies
    begun_s = shares % 1.0 * period_s

    def arrived(until_s: Floats) -> Ints:
        """Arrivals of one copy without end before each time."""
        turns = np.floor_divide(until_s, period_s)
        within: Ints = np.searchsorted(time_s, until_s - turns * period_s, side="left").astype(np.int64)
        return within + turns.astype(np.int64) * rows

    first = arrived(begun_s)
    low_s, high_s = 0.0, (num_requests / (copies * rows) + 1) * period_s
    for _ in range(60):
        middle_s = (low_s + high_s) / 2
        if int((arrived(begun_s + middle_s) - first).sum()) < num_requests:
            low_s = middle_s
        else:
            high_s = middle_s
    lengths = arrived(begun_s + high_s) - first
    place = ranges(first, lengths)
    copy, turn, row = np.repeat(np.arange(copies), lengths), place // rows, place % rows
    arrival_s = time_s[row] + turn * period_s - begun_s[copy]
    order = np.argsort(arrival_s, kind="stable")[:num_requests]
    _, namespace = np.unique(copy[order] * (int(turn.max()) + 1) + turn[order], return_inverse=True)
    kept_s = arrival_s[order]
    return _Selection(row[order], namespace, kept_s - kept_s[0])


def _period_s(time_s: Floats) -> float:
    """One mean gap more than the span, so that the last arrival and the wrapped first one do not fall together."""
    return float(time_s[-1]) * len(time_s) / (len(time_s) - 1)


def _selected(source: Workload, copies: int, seed: int, horizon: int) -> _Selection:
    clock = _Clock(source.arrival_s - source.arrival_s[0], copies, seed)
    wrapped, direct = clock.arrived(clock.time_of(horizon))
    (some,) = np.nonzero(wrapped + direct)
    offset_s = clock.offset_s[some]
    starts = np.stack((np.zeros(len(some), dtype=np.int64), clock.first_wrapped[some]), axis=1).ravel()
    lengths = np.stack((direct[some], wrapped[some]), axis=1).ravel()
    shift_s = np.stack((offset_s, offset_s - clock.period_s), axis=1).ravel()
    row = ranges(starts, lengths)
    part = np.repeat(np.arange(2 * len(some)), lengths)
    namespace = 2 * some[part // 2] + part % 2
    arrival_s = clock.time_s[row] + shift_s[part]
    order = np.argsort(arrival_s, kind="stable")[:horizon]
    return _Selection(row[order], namespace[order], np.maximum(arrival_s[order], 0.0))


def _row_bytes(source: Workload) -> float:
    """Memory of a request: columns and pieces, as they are and while they are put in order."""
    return 120 + 60 * len(source.piece_chain) / len(source)


def _gathered(source: Workload, kept: _Selection, note: str) -> Workload:
    pieces = np.diff(source.piece_offsets)[kept.row]
    piece = ranges(source.piece_offsets[kept.row], pieces)
    chains = np.concatenate((source.piece_chain, source.output_chain))
    shared, private = int(chains.max(initial=-1)) + 1, -int(chains.min(initial=0))
    sessions = int(source.session_id.max()) + 1

    def chain_in(namespace: Ints, chain: Ints) -> Ints:
        return np.where(chain >= 0, chain + namespace * shared, chain - namespace * private)

    session = source.session_id[kept.row]
    shift_s = kept.arrival_s - source.arrival_s[kept.row]
    return Workload(
        arrival_s=kept.arrival_s,
        prompt_tokens=source.prompt_tokens[kept.row],
        output_tokens=source.output_tokens[kept.row],
        session_id=np.where(session >= 0, session + kept.namespace * sessions, -1),
        output_chain=chain_in(kept.namespace, source.output_chain[kept.row]),
        piece_offsets=np.concatenate(([0], np.cumsum(pieces))),
        piece_chain=chain_in(np.repeat(kept.namespace, pieces), source.piece_chain[piece]),
        piece_tokens=source.piece_tokens[piece],
        info=source.info.noted(note),
        priority=None if source.priority is None else source.priority[kept.row],
        adapter=None if source.adapter is None else source.adapter[kept.row],
        model=None if source.model is None else source.model[kept.row],
        graph=None if source.graph is None else source.graph.taken(kept.row, kept.namespace, shift_s),
    )
