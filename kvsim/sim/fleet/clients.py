"""How long whoever sends requests waits, and when it sends one again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvsim.pickling import by_fields
from kvsim.sim.engine.sequence import RequestState


@dataclass(frozen=True)
class Patience:
    """Clients that give up, and may try again."""

    timeout_s: float | None
    """An attempt is given up that is not complete so long after it was sent; ``None``: never."""
    patient_requests: int = 0
    """The first so many are never given up."""
    retries: int = 0
    """Times that a request is sent again."""
    backoff_s: float = 0.0
    """Wait before the first of them."""
    backoff_factor: float = 1.0
    """Each next wait is so many times as long."""
    backoff_max_s: float = 0.0
    backoff_jitter: float = 0.0
    """Share of a wait that is drawn, uniformly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    def wait_s(self, retry: int, drawn: float) -> float:
        """Seconds before retry number ``retry``, from 0 on; ``drawn``: from 0 to 1."""
        longest_s = max(self.backoff_max_s, self.backoff_s)
        wait_s = self.backoff_s
        for _ in range(retry):
            wait_s *= self.backoff_factor
            if wait_s >= longest_s:
                wait_s = longest_s
                break
        return wait_s * (1 - self.backoff_jitter * drawn)


class Waiting:
    """A client that waits for the answer to one request."""

    __slots__ = ("attempt", "state")

    def __init__(self, state: RequestState) -> None:
        self.state = state
        """The request as it was sent last, by the client or by the router."""
        self.attempt = 0
        """Times that the client has sent it again; -1: it waits no more."""
