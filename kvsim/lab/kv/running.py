"""Running a design: every point in every repeat, or the search for the smallest value with which the server starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvsim.errors import ConfigError
from kvsim.lab.kv.backends.backend import KvBackend
from kvsim.lab.kv.design import Search
from kvsim.lab.kv.points import Point, point_at, points_of
from kvsim.lab.kv.reading import NamedDesign, as_json
from kvsim.lab.kv.rows import Rows
from kvsim.lab.kv.trial import Trials

Told = Callable[[str], None]
"""Takes a line on how far a run is."""
SMOKE_REPEATS, SMOKE_REQUESTS = 4, 8
MOST_HALVINGS = 40


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which repeats are run."""

    first: int
    count: int

    @property
    def repeats(self) -> range:
        return range(self.first, self.first + self.count)


def smoke(asked: NamedDesign) -> NamedDesign:
    """With few requests: whether a design works at all."""
    return asked.changed(requests=min(asked.design.requests, SMOKE_REQUESTS))


def run_design(asked: NamedDesign, backend: KvBackend, scope: Scope, tell: Told) -> Trials:
    """All repeats of ``scope``, one after the other. Rows of a repeat do not depend on which others are run.

    Raises a ``KvsimError`` before anything runs where the backend cannot run the design.
    """
    points, search = _points(asked), asked.design.search
    backend.check(asked, points)
    rows = Rows()
    for repeat in scope.repeats:
        if search is not None:
            _searched(asked, search, backend, repeat, rows, tell)
            continue
        for point in points:
            tell(f"repeat {repeat}, point {point.number + 1} of {len(points)}{_at(point)}")
            backend.run(point.repeat(repeat), rows)
    return Trials(
        name=asked.name,
        design=as_json(asked.design),
        backend=backend.name,
        phases=tuple(rows.phases),
        requests=tuple(rows.requests),
        server=backend.server,
        notes=tuple(backend.notes),
    )


def _points(asked: NamedDesign) -> Sequence[Point]:
    search = asked.design.search
    if search is None:
        return points_of(asked)
    halvings = halvings_of(search)
    if halvings > MOST_HALVINGS:
        raise ConfigError(f"{asked.where}: search.within = {search.within:g}: {halvings} halvings of the bracket")
    return [point_at(asked, 0, {search.key: search.high})]


def halvings_of(search: Search) -> int:
    """How often the bracket is halved until it is narrow enough."""
    width, found = search.high - search.low, 0
    while width > search.within:
        width, found = width / 2, found + 1
    return found


def value_at(search: Search, number: int) -> float:
    """The value of a point of a search: so many narrowest brackets above ``low``."""
    steps = 2 ** halvings_of(search)
    return search.high if number == steps else search.low + (search.high - search.low) * number / steps


def _searched(asked: NamedDesign, search: Search, backend: KvBackend, repeat: int, rows: Rows, tell: Told) -> None:
    """Halve the bracket between a value that does not start and one that does; every value tried leaves rows.

    A point's number is its place between the ends, so that a value has the same one in every repeat.
    """

    def starts(number: int) -> bool:
        point = point_at(asked, number, {search.key: value_at(search, number)})
        tell(f"repeat {repeat}{_at(point)}")
        return backend.run(point.repeat(repeat), rows)

    low, high = 0, 2 ** halvings_of(search)
    if not starts(high) or starts(low):
        return
    while high - low > 1:
        middle = (low + high) // 2
        if starts(middle):
            high = middle
        else:
            low = middle


def _at(point: Point) -> str:
    return "".join(f", {name} {value:g}" for name, value in point.at.items())
