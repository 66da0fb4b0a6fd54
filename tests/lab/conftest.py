"""Labs at a scale below smoke, done once each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from kvsim.lab.course import w11
from kvsim.lab.found import Found, do
from kvsim.lab.lab import SCALES, Desk
from kvsim.lab.registry import find
from kvsim.lab.simulated import Simulated

TINY = "tiny"


@pytest.fixture(scope="session")
def found_by() -> Iterator[Callable[[str], Found]]:
    """``found_by(name)``: what a lab finds with a quarter of the requests of ``smoke``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, TINY, 0.25)  # type: ignore[arg-type]
        patch.setattr(w11, "USERS", (1, 48))

        @cache
        def found(name: str) -> Found:
            return do(find(name), Desk(Simulated(7), TINY, 7))

        yield found


@pytest.fixture(scope="session")
def rows_of(found_by: Callable[[str], Found]) -> Callable[..., list[Any]]:
    """``rows_of(name, field=value, ...)``: the rows of a lab that have these values."""

    def rows(name: str, **values: object) -> list[Any]:
        return [
            row
            for row in found_by(name).answer.rows
            if all(getattr(row, field) == value for field, value in values.items())
        ]

    return rows
