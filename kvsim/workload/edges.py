"""Which rows of a trace file wait for which, found by their names once all of them are known."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.formats.base import Row, Wait
from kvsim.workload.graph import Bools, Ints, Waits

_SHOWN = 5
"""Requests of a circle that an error names."""


class Edges:
    """Waits as rows come: for a row that is known, or for a name that one may have that comes later."""

    def __init__(self, path: Path, refuse: Callable[[WorkloadError], None] | None) -> None:
        self._path, self._refuse = path, refuse
        self._count = 0
        self._names: dict[str, int] = {}
        self._name_of: dict[int, str] = {}
        self._row, self._on, self._delay, self._from_sent = array("q"), array("q"), array("d"), array("b")
        self._awaited: list[tuple[int, int, Wait]] = []
        """Line, row and what it waits for."""

    def named(self, row: Row) -> None:
        """The next row of the file, and what it waits for."""
        place = self._count
        self._count += 1
        if row.name is not None:
            if row.name in self._names:
                self._fault(row.line, f"a second request with the id {row.name!r}; allowed: each id once")
            else:
                self._names[row.name] = place
                self._name_of[place] = row.name
        for wait in row.waits:
            self._awaited.append((row.line, place, wait))

    def add(self, row: int, on: int, delay: int | float) -> None:
        """A row waits for the end of another, by their places."""
        self._row.append(row)
        self._on.append(on)
        self._delay.append(delay)
        self._from_sent.append(False)

    def cut(self, doubts: list[tuple[int, str]]) -> None:
        """Further rows are not read: who waits for one of them waits no more."""
        doubts += [
            (line, f"{wait.field} is {wait.name!r}, which is not among the rows that are read: not waited for")
            for line, _, wait in self._awaited
            if wait.name not in self._names
        ]
        self._awaited = [one for one in self._awaited if one[2].name in self._names]

    def resolved(self, lines: Sequence[int]) -> ResolvedEdges | None:
        """All waits; ``None`` where nobody waits. Raises ``WorkloadError`` for a name nobody has, and for circles."""
        for line, place, wait in self._awaited:
            on = self._names.get(wait.name)
            if on is None:
                self._fault(line, f"{wait.field} is {wait.name!r}, which no row is; {self._nearest(wait.name)}")
            elif on == place:
                self._fault(line, f"{wait.field} is {wait.name!r}, the request itself; allowed: another one")
            else:
                self.add(place, on, wait.delay)
                self._from_sent[-1] = wait.from_sent
        self._awaited = []
        while self._row:
            rank, stuck = self._order()
            if not stuck:
                return ResolvedEdges(self._row, self._on, self._delay, self._from_sent, rank)
            circle = self._circle(stuck)
            names = [self._name_of.get(place, f"line {lines[place]}") for place in circle]
            through = ", ".join(repr(name) for name in names[1:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            self._fault(lines[circle[0]], f"request {names[0]!r} waits for itself, through {through}")
            self._without(circle[0])
        return None

    def _fault(self, line: int, message: str) -> None:
        error = WorkloadError(f"{self._path}:{line}: {message}")
        if self._refuse is None:
            raise error
        self._refuse(error)

    def _nearest(self, name: str) -> str:
        known = nearest(name, self._names) if self._names else "no row has an id"
        return known if len(known) <= 100 else f"{known[:97]}..."

    def _order(self) -> tuple[Ints | None, set[int]]:
        """Rows so that none comes before one that it waits for (Kahn 1962), and those for which there is no such order.

        ``None`` where the file's order is one.
        """
        rows, ons = self._row.tolist(), self._on.tolist()
        if all(on < row for row, on in zip(rows, ons, strict=True)):
            return None, set()
        open_waits = [0] * self._count
        followers: list[list[int]] = [[] for _ in range(self._count)]
        for row, on in zip(rows, ons, strict=True):
            open_waits[row] += 1
            followers[on].append(row)
        ready, order = deque(place for place, waits in enumerate(open_waits) if not waits), array("q")
        while ready:
            place = ready.popleft()
            order.append(place)
            for follower in followers[place]:
                open_waits[follower] -= 1
                if not open_waits[follower]:
                    ready.append(follower)
        return np.array(order, dtype=np.int64), {place for place, waits in enumerate(open_waits) if waits}

    def _circle(self, stuck: set[int]) -> list[int]:
        """A circle among rows of which each waits for another one of them, from its first row on."""
        waits_on = {row: on for row, on in zip(self._row, self._on, strict=True) if row in stuck and on in stuck}
        seen: dict[int, int] = {}
        at = min(stuck)
        while at not in seen:
            seen[at] = len(seen)
            at = waits_on[at]
        circle = list(seen)[seen[at] :]
        first = circle.index(min(circle))
        return circle[first:] + circle[:first]

    def _without(self, row: int) -> None:
        """Drop what a row waits for."""
        kept = [place for place, one in enumerate(self._row) if one != row]
        for name in ("_row", "_on", "_delay", "_from_sent"):
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, (column[place] for place in kept)))


@dataclass(frozen=True)
class ResolvedEdges:
    """Waits of which none goes in a circle, one entry each."""

    row: array[int]
    on: array[int]
    delay: array[float]
    from_sent: array[int]
    rank: Ints | None
    """Rows in an order in which none comes before one that it waits for; ``None``: that of the file."""

    def waits(self) -> Waits:
        columns = np.array(self.row), np.array(self.on), np.array(self.delay), np.array(self.from_sent, dtype=np.bool_)
        return Waits(*columns)

    def is_root(self, count: int) -> Bools:
        roots: Bools = np.bincount(np.array(self.row), minlength=count) == 0
        return roots

    def times(self, earliest: Sequence[int | float], answers: Sequence[float]) -> list[int | float]:
        """When each row would be sent if answers took so long."""
        times = list(earliest)
        edges: dict[int, list[int]] = {}
        for edge, row in enumerate(self.row):
            edges.setdefault(row, []).append(edge)
        for row in sorted(edges) if self.rank is None else self.rank.tolist():
            for edge in edges.get(row, ()):
                on = self.on[edge]
                begun = times[on] if self.from_sent[edge] else times[on] + answers[on]
                times[row] = max(times[row], begun + self.delay[edge])
        return times
