"""What a backend of the KV lab is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kvsim.lab.kv.phases import Repeat
from kvsim.lab.kv.points import Point
from kvsim.lab.kv.reading import NamedDesign
from kvsim.lab.kv.rows import Rows

BACKENDS = ("simulated", "url", "local", "modal")


class KvBackend(Protocol):
    """Runs repeats one after the other."""

    @property
    def name(self) -> str:
        """One of ``BACKENDS``."""

    def check(self, asked: NamedDesign, points: Sequence[Point]) -> None:
        """Raise a ``KvsimError``, one line, for a design that it cannot run, before anything is."""

    def run(self, repeat: Repeat, rows: Rows) -> bool:
        """Run the phases of a repeat and add their rows; whether the server came up."""

    @property
    def server(self) -> Mapping[str, object]:
        """What is known of the server by now, without secrets."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences that a reader of the figures should know."""
