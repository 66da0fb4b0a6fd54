"""Who is told of requests while they are served."""

from __future__ import annotations

from typing import Protocol

from kvsim.sim.engine.sequence import RequestState
from kvsim.workload.request import Request


class Watcher(Protocol):
    """Told of each request what happens to it, at the instant at which it happens. It may not ask the system for
    anything meanwhile."""

    def tokens(self, state: RequestState, count: int, is_first: bool) -> None:
        """So many more tokens of its answer are out. ``is_first``: there were none before."""

    def completed(self, state: RequestState, row: tuple[float, ...]) -> None:
        """Its last token is out. ``row``: of ``kvsim.record.result.COLUMNS``."""

    def refused(self, request: Request) -> None:
        """It fits nowhere."""
