"""How far a simulation is, on stderr, for a person watching a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from kvsim.record.labels import number

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_REFRESH_S = 0.2


class Progress:
    """Takes reports of progress and shows nothing: for pipes, files and ``--quiet``."""

    def update(self, completed: int, now_s: float) -> None:
        """``completed`` requests are done at simulated time ``now_s``. Cheap; every thousand completions will do."""

    def close(self) -> None:
        """The simulation has ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TerminalProgress(Progress):
    """A bar with simulated time, completed requests, requests per second of real time and time left."""

    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self._bar, self._task = _bar(label, total, stream)
        self._started_s = time.monotonic()
        self._shown_s = -_REFRESH_S
        self._last = (0, 0.0)

    def update(self, completed: int, now_s: float) -> None:
        """Redraw, at most five times a second: no thread does it, the simulation keeps the core to itself."""
        self._last = (completed, now_s)
        clock_s = time.monotonic()
        if clock_s - self._shown_s >= _REFRESH_S:
            self._shown_s = clock_s
            self._draw()

    def close(self) -> None:
        """Draw the last state and give the line back."""
        self._draw()
        self._bar.stop()

    def _draw(self) -> None:
        completed, now_s = self._last
        elapsed_s = max(time.monotonic() - self._started_s, 1e-9)
        rate = number(completed / elapsed_s)
        self._bar.update(self._task, completed=completed, rate=rate, simulated=number(now_s))
        self._bar.refresh()


def _bar(label: str, total: int, stream: TextIO) -> tuple[RichProgress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} requests/s"),
        TextColumn("simulated {task.fields[simulated]} s"),
        TextColumn("ETA"),
        TimeRemainingColumn(compact=True),
        console=Console(file=stream),
        auto_refresh=False,
        transient=True,
    )
    bar.start()
    return bar, bar.add_task(label, total=total, rate="-", simulated="0")


def progress_bar(label: str, total: int, *, quiet: bool, stream: TextIO | None = None) -> Progress:
    """A context manager for one simulation of ``total`` requests: a bar on a terminal, else silent.

    ``stream`` is stderr unless given, so that results on stdout stay clean.
    """
    stream = sys.stderr if stream is None else stream
    return Progress() if quiet or not stream.isatty() else TerminalProgress(label, total, stream)
