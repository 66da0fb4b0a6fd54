"""A workload: every request of a run as columns, handed out one by one in arrival order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kvsim.errors import WorkloadError
from kvsim.workload.graph import Floats, Ints, RequestGraph, ranges
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.request import Request, RequestRows

__all__ = ["CHUNK_REQUESTS", "Counts", "Floats", "Ints", "Workload"]

Counts = npt.NDArray[np.int32]

# Requests turned into Python objects at a time: enough to spread numpy's cost per call, few enough that the processor's
# cache holds them; 4,096 takes twice as long.
CHUNK_REQUESTS = 256
_SHORTEST_S, _LONGEST_S = 1e-9, 1e12
"""Least and longest span of arrivals: below, times differ by less than their rounding; above, 30,000 years."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Requests in arrival order as columns; a request's id is its row.

    Pieces stand in compressed rows: request ``i`` owns ``piece_chain[piece_offsets[i]:piece_offsets[i + 1]]``. What
    chains mean is said by :class:`kvsim.workload.request.Request`. Raises ``ValueError`` when the columns disagree.

    An open loop sends every request at its ``arrival_s``. In a closed loop a request may wait for others, as ``graph``
    says, and its ``arrival_s`` is only what an open loop would take; and while ``max_concurrency`` requests are in
    flight, further ones that are due wait for one of them to end, first come first served, and arrive then.
    """

    arrival_s: Floats
    prompt_tokens: Counts
    output_tokens: Counts
    session_id: Ints
    output_chain: Ints
    piece_offsets: Ints
    piece_chain: Ints
    piece_tokens: Counts
    info: WorkloadInfo
    priority: Counts | None = None
    """Lower goes first where the engines schedule by priority. ``None``: all alike."""
    adapter: Counts | None = None
    """LoRA adapters that requests go to. ``None``: all to the same."""
    graph: RequestGraph | None = None
    """Who waits for whom; ``None``: nobody waits."""
    max_concurrency: int | None = None
    """Most requests in flight; ``None``: no limit."""
    model: Counts | None = None
    """Numbers in ``info.models``, -1: none; ``None``: the trace says of no request which model it asks, or that was not
    to be kept."""

    def __post_init__(self) -> None:
        if len(self.piece_offsets) != len(self.arrival_s) + 1 or self.piece_offsets[-1] != len(self.piece_chain):
            raise ValueError("piece_offsets must have one entry per request and one more, ending at the last piece")
        if np.any(np.diff(self.arrival_s) < 0):
            raise ValueError("arrivals must be in time order")
        ends = np.concatenate(([0], np.cumsum(self.piece_tokens, dtype=np.int64)))[self.piece_offsets]
        if np.any(np.diff(ends) != self.prompt_tokens):
            raise ValueError("the pieces of a request must sum to its prompt tokens")
        if self.graph is not None and len(self.graph) != len(self.arrival_s):
            raise ValueError("the graph must be one of these requests")

    @classmethod
    def private(cls, arrival_s: Floats, prompt_tokens: Counts, output_tokens: Counts, info: WorkloadInfo) -> Workload:
        """Requests that share nothing: each prompt is one piece of a chain of its own."""
        count = len(arrival_s)
        chain = -1 - np.arange(count, dtype=np.int64)
        prompts = prompt_tokens.astype(np.int32)
        return cls(
            arrival_s=arrival_s.astype(np.float64),
            prompt_tokens=prompts,
            output_tokens=output_tokens.astype(np.int32),
            session_id=np.full(count, -1, dtype=np.int64),
            output_chain=chain,
            piece_offsets=np.arange(count + 1, dtype=np.int64),
            piece_chain=chain,
            piece_tokens=prompts,
            info=info,
        )

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __iter__(self) -> Iterator[Request]:
        """Requests in arrival order, ties in the order of the source; only one chunk of them exists at a time."""
        for start in range(0, len(self), CHUNK_REQUESTS):
            yield from self._chunk(start, min(start + CHUNK_REQUESTS, len(self)))

    def _chunk(self, start: int, stop: int) -> Iterator[Request]:
        rows = slice(start, stop)
        offsets = self.piece_offsets[start : stop + 1]
        pieces = slice(int(offsets[0]), int(offsets[-1]))
        pairs = tuple(zip(self.piece_chain[pieces].tolist(), self.piece_tokens[pieces].tolist(), strict=True))
        columns = (
            range(start, stop),
            self.arrival_s[rows].tolist(),
            self.prompt_tokens[rows].tolist(),
            self.output_tokens[rows].tolist(),
            self.session_id[rows].tolist(),
            [pairs[a:b] for a, b in pairwise((offsets - offsets[0]).tolist())],
            self.output_chain[rows].tolist(),
            [0] * (stop - start) if self.priority is None else self.priority[rows].tolist(),
            [0] * (stop - start) if self.adapter is None else self.adapter[rows].tolist(),
        )
        return map(Request._make, zip(*columns, strict=True))

    @property
    def is_closed(self) -> bool:
        """Whether arrivals depend on how fast answers come."""
        return self.graph is not None or self.max_concurrency is not None

    @property
    def holds_back(self) -> bool:
        """Whether slow answers keep requests away, so that no overload can build up.

        So it is where a number of requests in flight is the most, or where nothing comes in the second half of the span
        but what waits for others: users. Where sessions keep on coming at their own times, each of them waits for its
        answers, and the number of sessions grows.
        """
        if self.max_concurrency is not None:
            return True
        if self.graph is None or not len(self):
            return False
        last_root_s = float(self.arrival_s[self.graph.is_root][-1])
        return last_root_s - float(self.arrival_s[0]) < self.span_s / 2

    def sent_first(self) -> Iterator[Request]:
        """The requests that wait for no other, in arrival order."""
        if self.graph is None:
            return iter(self)
        rows, roots = self.rows(), np.flatnonzero(self.graph.is_root)
        return (rows.request(int(row)) for row in roots)

    def request(self, row: int) -> Request:
        """One of them."""
        return self.rows().request(row)

    def rows(self) -> RequestRows:
        """All of them, in any order."""
        columns = self.arrival_s, self.prompt_tokens, self.output_tokens, self.session_id, self.output_chain
        pieces = self.piece_offsets, self.piece_chain, self.piece_tokens
        return RequestRows(columns, pieces, (self.priority, self.adapter))

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0

    @property
    def mean_rate_per_s(self) -> float:
        """Arrivals after the first over the span; infinite when all arrive at once."""
        return (len(self) - 1) / self.span_s if self.span_s > 0 else math.inf

    @property
    def without_rate(self) -> str:
        """Why ``mean_rate_per_s`` is infinite, where it is."""
        return "a single request has no rate" if len(self) == 1 else f"all {len(self):,} requests arrive at once"

    def scaled(self, arrival_scale: float) -> Workload:
        """A workload of these requests with every arrival time multiplied: 0.5 doubles the rate."""
        if not (0 < arrival_scale < math.inf):
            raise WorkloadError(f"arrival scale is {arrival_scale}; allowed: a finite number > 0")
        if arrival_scale == 1:
            return self
        span_s = self.span_s * arrival_scale
        if self.span_s and not _SHORTEST_S <= span_s <= _LONGEST_S:
            raise WorkloadError(
                f"arrival scale {arrival_scale:g} makes {len(self):,} requests arrive within {span_s:.3g} s; "
                f"allowed: {_SHORTEST_S:g} to {_LONGEST_S:g} s"
            )
        note = f"arrival times multiplied by {arrival_scale:g}"
        graph = self.graph
        if graph is not None:
            graph = replace(graph, earliest_s=graph.earliest_s * arrival_scale)
        return replace(self, arrival_s=self.arrival_s * arrival_scale, graph=graph, info=self.info.noted(note))

    def stretched_to(self, rate_per_s: float) -> Workload:
        """A workload of these requests at another mean rate. Gaps change with it: turns do not wait for answers."""
        if not (0 < rate_per_s < math.inf):
            raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
        if self.span_s == 0:
            raise WorkloadError(f"{self.info.source}: {self.without_rate}, so no rate can be set by stretching")
        return self.scaled(self.mean_rate_per_s / rate_per_s)

    def taken(self, rows: Ints, arrival_s: Floats) -> Workload:
        """A workload of some of these requests in the order given, at other times; who waited for others still does."""
        counts = np.diff(self.piece_offsets)[rows]
        pieces = ranges(self.piece_offsets[rows], counts)
        return replace(
            self,
            arrival_s=arrival_s,
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            session_id=self.session_id[rows],
            output_chain=self.output_chain[rows],
            piece_offsets=np.concatenate(([0], np.cumsum(counts))),
            piece_chain=self.piece_chain[pieces],
            piece_tokens=self.piece_tokens[pieces],
            priority=None if self.priority is None else self.priority[rows],
            adapter=None if self.adapter is None else self.adapter[rows],
            model=None if self.model is None else self.model[rows],
            graph=None if self.graph is None else self.graph.taken(rows, shift_s=arrival_s - self.arrival_s[rows]),
        )

    def limited(self, num_requests: int) -> Workload:
        """The first ``num_requests`` arrivals, or all of them when there are fewer."""
        if num_requests < 1:
            raise WorkloadError(f"number of requests is {num_requests}; allowed: 1 or more")
        if num_requests >= len(self):
            return self
        first = self.taken(np.arange(num_requests), self.arrival_s[:num_requests])
        note = f"cut to the first {num_requests:,} of {len(self):,} requests"
        return replace(first, info=self.info.noted(note))
