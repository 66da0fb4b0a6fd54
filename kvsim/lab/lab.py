"""What a lab of the course is: a question, runs that answer it, and all ways to tell the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from kvsim.lab.backend import Asked, Backend, Served
from kvsim.launch import read_launch_line
from kvsim.plan.deployment import load_deployment
from kvsim.plan.explained import Explainer, explainer_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scale = Literal["smoke", "dev", "prod-eval"]
SCALES: Mapping[str, float] = {"smoke": 1.0, "dev": 5.0, "prod-eval": 25.0}
"""Presets, and how many times a lab's smallest number of requests they run."""
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A published figure, and what this lab found in its place."""

    what: str
    theirs: str
    ours: str
    same_sign: bool
    """Whether ours goes the way theirs does."""
    source: str
    why_not_equal: str = ""
    """What is otherwise there than here, in a clause."""


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[Row]):
    """What a lab found."""

    rows: tuple[Row, ...]
    sentence: str
    """The conclusion, with the condition that it holds under."""
    beside: tuple[Beside, ...] = ()
    series: Mapping[str, Any] = ()  # type: ignore[assignment]
    """Curves over time for the picture, by their labels; they are in no file."""
    asked: tuple[Asked, ...] = ()
    """The runs, as any backend can be asked for them."""


@dataclass(frozen=True)
class Desk:
    """Where a lab is done: who answers it, at which scale, with which seed."""

    backend: Backend
    scale: str = "smoke"
    seed: int = 42

    def requests(self, fewest: int) -> int:
        """So many at ``smoke``, more at other scales."""
        return round(fewest * SCALES[self.scale])

    def serve(self, *asked: Asked) -> list[Served]:
        """What the backend says to each."""
        return self.backend.serve(asked)


@dataclass(frozen=True, kw_only=True)
class Lab(Generic[Row]):
    """A file of ``kvsim.lab.course`` has one, as ``LAB``; its docstring begins with the question."""

    title: str
    """Over the table and the picture."""
    ask: Callable[[Desk], Answer[Row]]
    columns: Mapping[str, Callable[[Row], str]]
    """Heads of the table, and what stands below them of each row."""
    figure: Callable[[Answer[Row]], Figure]
    files: Mapping[str, Callable[[Path, Desk, Answer[Row]], None]] = ()  # type: ignore[assignment]
    """Further files, by what follows the lab's name in theirs."""
    simulated_only: bool = False
    """Whether it looks into steps, plans or clusters, which no client of a server can see."""

    @cached_property
    def name(self) -> str:
        return self.ask.__module__.rpartition(".")[2]

    @cached_property
    def question(self) -> str:
        """In a line."""
        return (sys.modules[self.ask.__module__].__doc__ or "").splitlines()[0]


def explained(line: str, gpu: str, *sets: str) -> Explainer:
    """What knows the steps of such a server: their time, operator by operator."""
    return explainer_of(load_deployment(read_launch_line(line), gpu=gpu, sets=sets))
