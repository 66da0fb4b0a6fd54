"""What can be run on a rented GPU: one list of modes, each a shape of the same run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Mode(StrEnum):
    """What is run."""

    PROBE = "probe"
    TINY = "tiny"
    ENGINE = "engine"
    STREAMING = "streaming"
    CONCURRENT = "concurrent"
    SWEEP = "sweep"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a mode takes, where nobody says otherwise."""

    what: str
    runs: Literal["nothing", "engine", "server"]
    workloads: tuple[str, ...] = ()
    concurrency: tuple[int, ...] = ()
    requests_per_user: int = 0
    prefix_caching: tuple[bool, ...] = (True,)
    """A server is started for each."""

    @property
    def starts(self) -> int:
        """Servers or engines that come up, one after another."""
        return 0 if self.runs == "nothing" else len(self.prefix_caching)


SHAPES = {
    Mode.PROBE: Shape("which GPU and driver there are; no model", "nothing"),
    Mode.TINY: Shape("a server, and four short answers: does it work?", "server", ("in=32,out=16",), (1,), 4),
    Mode.ENGINE: Shape("vLLM's engine in a process, no HTTP", "engine", ("in=512,out=128",), (8,), 8),
    Mode.STREAMING: Shape(
        "a server, one streamed answer at a time", "server", ("in=512,out=128",), (1,), 32
    ),
    Mode.CONCURRENT: Shape("a server under one load", "server", ("in=512,out=128",), (16,), 8),
    Mode.SWEEP: Shape(
        "a server under each load of a grid, with prefix caching and without",
        "server",
        ("in=512,out=128,prefix=256:4", "in=2048,out=128,prefix=1536:4"),
        (1, 4, 16, 64),
        8,
        (True, False),
    ),
}  # fmt: skip
