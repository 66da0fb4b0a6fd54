"""One request's KV on its way, as the network keeps it."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.sim.clock import Timer


class StreamOwner:
    """Told by streams when their time has come."""

    __slots__ = ()

    def timed(self, stream: Stream) -> None:
        """The stream leaves its links now, or has arrived."""
        raise NotImplementedError


class Stream(Timer):
    """One request's KV between two instances, chunk after chunk; a timer of when it leaves its links, or has come."""

    __slots__ = (
        "active",
        "busy_s",
        "drains",
        "end_s",
        "factor",
        "first_arrived",
        "first_at_s",
        "first_timer",
        "first_work",
        "landed",
        "last",
        "latency_s",
        "line_bytes_per_s",
        "lone",
        "owner",
        "path",
        "rate",
        "sent_bytes",
        "since_s",
        "work",
        "work_left",
    )

    def __init__(
        self,
        owner: StreamOwner,
        path: tuple[int, ...],
        line_bytes_per_s: float,
        latency_s: float,
        factor: float,
        landed: Callable[[Stream], None],
    ) -> None:
        super().__init__()
        self.owner = owner
        self.path, self.line_bytes_per_s, self.latency_s, self.factor = path, line_bytes_per_s, latency_s, factor
        self.landed = landed
        self.sent_bytes = 0.0
        """Given to the network so far."""
        self.work = self.work_left = 0.0
        """What the links are to move for it, in bytes: jitter and descriptors included; in all, and still."""
        self.rate = 0.0
        self.since_s = 0.0
        """Time up to which ``work_left`` and ``busy_s`` are true."""
        self.end_s = 0.0
        """When, at this rate, nothing is left."""
        self.busy_s = 0.0
        self.active = self.lone = self.last = False
        self.drains = False
        """Whether it is the links that it leaves at the time that is set."""
        self.first_arrived: Callable[[Stream], None] | None = None
        self.first_work = 0.0
        self.first_at_s = -1.0
        self.first_timer: Timer | None = None

    def fire(self) -> None:
        self.owner.timed(self)

    def forget(self) -> None:
        """Nobody waits for the stream any more: what was to be told holds it, and it would hold that, for ever."""
        self.landed = _nobody
        self.first_arrived = None
        self.first_timer = None


class FirstPart:
    """The head of a stream, of whose arrival somebody wants to know."""

    __slots__ = ("arrived", "descriptors", "num_bytes")

    def __init__(self, num_bytes: float, descriptors: int, arrived: Callable[[Stream], None]) -> None:
        self.num_bytes, self.descriptors, self.arrived = num_bytes, descriptors, arrived


def _nobody(_: Stream) -> None:
    """Take note of what nobody waits for."""
