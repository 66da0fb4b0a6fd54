"""From paths of content to a workload: what prompts share gets a chain, wherever it stands."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.graph import RequestGraph, Waits
from kvsim.workload.hits import token_hit_rate
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.records import MAX_TOKENS
from kvsim.workload.workload import Ints, Workload

Part = tuple[Hashable, int]
"""What a part of a prompt is, and its tokens. ``None`` is content that only this request has."""


@dataclass
class Assembly:
    """Requests in any order, each a path of parts; the same parts behind the same parts are the same chain."""

    arrival_s: list[float] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    session: list[int] = field(default_factory=list)
    waits: list[tuple[int, int, float]] = field(default_factory=list)
    """Waits for ends: the row that waits, the one it waits for, and how long after that."""
    paths: list[list[tuple[int, int]]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """The chain of each answer; -1: nobody repeats it."""
    _chains: dict[tuple[int, Hashable], int] = field(default_factory=dict)

    def add(
        self,
        arrival_s: float,
        parts: Sequence[Part],
        output_tokens: int,
        *,
        session: int = -1,
        after: int | Sequence[int] = (),
        think_s: float = 0.0,
        answer: Hashable = None,
    ) -> int:
        """One request; returns its row. ``answer``: what a later prompt calls its answer, directly behind ``parts``.

        ``after``: the requests that it waits for, -1 for none, ``think_s`` after the last of them.
        """
        row, past, path = len(self.paths), -1, []
        for what, tokens in parts:
            if tokens <= 0:
                continue
            if what is None:
                chain = -1 - row
            else:
                chain = past = self._chains.setdefault((past, what), len(self._chains))
            path.append((chain, tokens))
        known = -1 if answer is None else self._chains.setdefault((past, answer), len(self._chains))
        self.answers.append(known)
        self.paths.append(path)
        self.arrival_s.append(arrival_s)
        self.output_tokens.append(output_tokens)
        self.session.append(session)
        for on in [after] if isinstance(after, int) else after:
            if on >= 0:
                self.waits.append((row, on, think_s))
        return row

    def workload(self, source: str, notes: tuple[str, ...], *, closed: bool) -> Workload:
        """In order of arrival. ``closed``: those that wait for another do so, else all come at their times."""
        arrival_s = np.array(self.arrival_s)
        order = np.argsort(arrival_s, kind="stable")
        flat = [piece for row in order.tolist() for piece in self.paths[row]]
        counts = np.array([len(self.paths[row]) for row in order.tolist()], dtype=np.int64)
        chain = np.array([piece[0] for piece in flat], dtype=np.int64)
        tokens = np.array([piece[1] for piece in flat], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        prompts = np.add.reduceat(tokens, offsets[:-1])
        if prompts.max() > MAX_TOKENS:
            longest = int(prompts.max())
            raise WorkloadError(f"{source}: a prompt would have {longest:,} tokens; allowed: up to {MAX_TOKENS:,}")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        private = np.where(chain < 0, -1 - rank[-1 - np.minimum(chain, -1)], chain)
        answers = np.array(self.answers, dtype=np.int64)[order]
        columns: dict[str, Any] = {
            "prompt_tokens": prompts.astype(np.int32),
            "output_tokens": np.array(self.output_tokens, dtype=np.int32)[order],
            "output_chain": np.where(answers >= 0, answers, -1 - np.arange(len(order), dtype=np.int64)),
            "piece_offsets": offsets,
            "piece_chain": private,
            "piece_tokens": tokens.astype(np.int32),
        }
        info = WorkloadInfo(
            source,
            "synthetic",
            infinite_cache_hit_rate_tokens=token_hit_rate(**columns),
            notes=notes,
            generated_known=bool(np.any(answers >= 0)),
        )
        return Workload(
            arrival_s=arrival_s[order],
            session_id=np.array(self.session, dtype=np.int64)[order],
            info=info,
            graph=self._graph(rank) if closed else None,
            **columns,
        )

    def _graph(self, rank: Ints) -> RequestGraph:
        """Who waits for whom, by the places that rows got."""
        columns = np.array(self.waits, dtype=np.float64).reshape(len(self.waits), 3)
        row, on = (rank[columns[:, place].astype(np.int64)] for place in (0, 1))
        return RequestGraph.of(Waits.after(row, on, columns[:, 2]), len(rank))
