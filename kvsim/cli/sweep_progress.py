"""How far a sweep is, over all its workers: a bar on a terminal, else a line on stderr now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvsim.record.labels import counted

if TYPE_CHECKING:
    from kvsim.sweep.drive import State

_LINE_S = 60.0


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[State], None]]:
    """What is told of every state that a sweep is in."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as told:
            yield told
    else:
        yield _Lines().told


def _words(state: State) -> str:
    failed = f", {state.failed:,} failed" if state.failed else ""
    return f"{counted(state.slots, 'worker')}{failed}"


class _Lines:
    """A line a minute, for logs."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def told(self, state: State) -> None:
        """Say it, where the last line is long enough ago."""
        if time.monotonic() - self._said_s >= _LINE_S:
            self._said_s = time.monotonic()
            print(f"kvsim: {state.done:,} of {state.total:,} runs, {_words(state)}", file=sys.stderr)


@contextmanager
def _bar() -> Iterator[Callable[[State], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda state: bar.update(task, total=state.total, completed=state.done, description=_words(state))
