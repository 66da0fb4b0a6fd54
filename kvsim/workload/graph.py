"""Request graphs: a request is sent when others have ended, or have been sent, and its own delay has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Waits(NamedTuple):
    """Edges of a graph, one entry each: ``row`` waits for ``on``."""

    row: Ints
    on: Ints
    delay_s: Floats
    """From the end of ``on`` to ``row``."""
    from_sent: Bools
    """Where true, from when ``on`` was sent instead."""

    @classmethod
    def after(cls, row: Ints, on: Ints, delay_s: Floats) -> Waits:
        """Waits for ends alone."""
        return cls(row, on, delay_s, np.zeros(len(row), dtype=np.bool_))

    def those(self, which: npt.NDArray[np.bool_] | Ints) -> Waits:
        """Some of them, in the order given."""
        return Waits(self.row[which], self.on[which], self.delay_s[which], self.from_sent[which])

    def and_those(self, others: Waits) -> Waits:
        """These and others."""
        return Waits(
            np.concatenate((self.row, others.row)),
            np.concatenate((self.on, others.on)),
            np.concatenate((self.delay_s, others.delay_s)),
            np.concatenate((self.from_sent, others.from_sent)),
        )


@dataclass(frozen=True, eq=False)
class RequestGraph:
    """Who waits for whom, in compressed rows.

    Request ``i`` waits for the earlier requests ``on[offsets[i]:offsets[i + 1]]``. It is sent when every one of these
    waits is over, each ``delay_s`` after that request ended (``from_sent``: after it was sent), but not before
    ``earliest_s[i]``. Who waits for nobody is sent at its arrival time. A request that fails ends when it fails.
    Raises ``ValueError`` when the columns disagree, or a request waits for a later one or for itself.
    """

    offsets: Ints
    on: Ints
    delay_s: Floats
    from_sent: Bools
    earliest_s: Floats
    """No meaning where a request waits for nobody."""

    def __post_init__(self) -> None:
        edges = len(self.on)
        if len(self.offsets) != len(self.earliest_s) + 1 or self.offsets[-1] != edges:
            raise ValueError("offsets must have one entry per request and one more, ending at the last wait")
        if not len(self.delay_s) == len(self.from_sent) == edges:
            raise ValueError("delay_s and from_sent must have one entry per wait")
        if np.any(self.on >= self.rows()) or np.any(self.on < 0):
            raise ValueError("a request can only wait for an earlier one")
        if not np.all((self.delay_s >= 0) & np.isfinite(self.delay_s)):
            raise ValueError("delays must be finite and not negative")

    @classmethod
    def of(cls, waits: Waits, num_requests: int, earliest_s: Floats | None = None) -> RequestGraph:
        """The graph of these waits, in any order; those of one request keep theirs."""
        ordered = waits.those(np.argsort(waits.row, kind="stable"))
        counts = np.bincount(ordered.row, minlength=num_requests)
        return cls(
            np.concatenate(([0], np.cumsum(counts))),
            ordered.on,
            ordered.delay_s,
            ordered.from_sent,
            np.zeros(num_requests) if earliest_s is None else earliest_s,
        )

    @classmethod
    def turns(cls, after: Ints, think_s: Floats) -> RequestGraph:
        """Every request waits for the end of one other at most, ``after``, -1: of none; and thinks."""
        (row,) = np.nonzero(after >= 0)
        return cls.of(Waits.after(row, after[row], think_s[row]), len(after))

    def __len__(self) -> int:
        return len(self.earliest_s)

    def rows(self) -> Ints:
        """The request of each wait."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def waits(self) -> Waits:
        return Waits(self.rows(), self.on, self.delay_s, self.from_sent)

    @property
    def is_root(self) -> Bools:
        """Whether each request waits for nobody."""
        roots: Bools = np.diff(self.offsets) == 0
        return roots

    def as_turns(self) -> tuple[Ints, Floats]:
        """``turns`` backwards: whom each waits for the end of, and how long it thinks.

        -1 and 0 where it waits for nobody, or for more than one such end.
        """
        only = np.diff(self.offsets) == 1
        first = self.offsets[:-1][only]
        only[only] = ~self.from_sent[first] & (self.earliest_s[only] <= 0)
        wait = self.offsets[:-1][only]
        after, think_s = np.full(len(self), -1, dtype=np.int64), np.zeros(len(self))
        after[only], think_s[only] = self.on[wait], self.delay_s[wait]
        return after, think_s

    def taken(self, rows: Ints, namespace: Ints | None = None, shift_s: Floats | None = None) -> RequestGraph:
        """The graph of some of its requests in another order, perhaps some of them several times.

        ``namespace``: of each, requests of two do not wait for each other. What a request waited for is left out where
        that is not among them, or comes later. ``shift_s``: how much later each comes.
        """
        spaces = np.zeros(len(rows), dtype=np.int64) if namespace is None else namespace
        key = spaces * len(self) + rows
        order = np.argsort(key, kind="stable")
        counts = np.diff(self.offsets)[rows]
        edge = ranges(self.offsets[rows], counts)
        row = np.repeat(np.arange(len(rows)), counts)
        wanted = spaces[row] * len(self) + self.on[edge]
        place = np.minimum(np.searchsorted(key, wanted, sorter=order), len(order) - 1)
        on = order[place]
        there = (key[on] == wanted) & (on < row)
        found = Waits(row, on, self.delay_s[edge], self.from_sent[edge]).those(there)
        earliest_s = self.earliest_s[rows]
        if shift_s is not None:
            earliest_s = np.where(earliest_s > 0, np.maximum(earliest_s + shift_s, 0.0), 0.0)
        return RequestGraph.of(found, len(rows), earliest_s)


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """``[start, start + length)`` of each pair, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return found
