"""What became of a run's instances and of requests that were sent more than once: plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Incident:
    """One thing that happened to a part of a cluster."""

    kind: str
    """As in ``fleet.events``."""
    where: str
    """Whom it hit: ``decode 3``, ``rack 2``."""
    begin_s: float
    end_s: float = math.nan
    """When that part was as before again; ``nan``: not until the run ended."""
    instances: int = 0
    """Instances that it took out of service."""
    requests_hit: int = 0
    """Requests that lost what they had on an instance."""
    lost_prefill_tokens: int = 0
    """Tokens of their prompts that had been computed for them there."""


@dataclass(frozen=True)
class RoleFleet:
    """Instances of one role over a run, changes at ``times_s``."""

    role: str
    instances: int
    """Instances that there are at most."""
    gpus: int
    """GPUs of one."""
    times_s: tuple[float, ...]
    serving: tuple[int, ...]
    """From each of ``times_s`` on: instances that answer and take new requests."""
    paid: tuple[int, ...]
    """Likewise: instances that are there at all, those that start, drain or have failed among them."""

    def mean(self, counts: tuple[int, ...], window_s: tuple[float, float]) -> float:
        """The mean of ``serving`` or ``paid`` over a window; nan for an empty one."""
        start_s, end_s = window_s
        if end_s <= start_s:
            return math.nan
        total = 0.0
        for place, count in enumerate(counts):
            first_s = max(self.times_s[place], start_s)
            last_s = min(self.times_s[place + 1] if place + 1 < len(counts) else end_s, end_s)
            total += count * max(0.0, last_s - first_s)
        return total / (end_s - start_s)

    @property
    def gpu_s(self) -> float:
        """GPU-seconds that instances were there, up to the last of ``times_s``."""
        spans = zip(self.paid, self.times_s, self.times_s[1:], strict=False)
        return self.gpus * sum(count * (end_s - begin_s) for count, begin_s, end_s in spans)


@dataclass(frozen=True)
class FleetUse:
    """Instances that came and went, and requests that were sent more than once."""

    incidents: tuple[Incident, ...]
    roles: tuple[RoleFleet, ...]
    requests_hit: int
    """Times that a request lost what it had on an instance, or was sent to one that was gone."""
    resent: int
    """Times that the router sent a request again."""
    timed_out: int
    """Attempts that their clients gave up."""
    retried: int
    """Times that a client sent a request again."""
    gave_up: int
    """Requests that ended so: the last attempt was given up, or failed."""
    unserved: int
    """Requests that nobody was left to serve."""
    held: int
    """Times that a request waited at the router until an instance could take it."""
    lost_prefill_tokens: int
    """Tokens of prompts that were computed for attempts that came to nothing."""
    arrived: int
    again_s: Floats = field(default_factory=lambda: np.zeros(0))
    """When requests were sent again, by router or client."""
    failed_arrival_s: Floats = field(default_factory=lambda: np.zeros(0))
    """Arrivals of requests that were given up or had nobody left to serve them, and, alike, when that was so."""
    failed_s: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def lost_attempts(self) -> int:
        """Attempts that came to nothing: after each a request was sent again, or given up."""
        return self.resent + self.retried + self.gave_up

    @property
    def failed(self) -> int:
        """Requests that have no answer because they were given up, or nobody was left to serve them."""
        return self.gave_up + self.unserved

    @property
    def amplification(self) -> float:
        """Attempts over requests that came; nan where none did."""
        return (self.arrived + self.resent + self.retried) / self.arrived if self.arrived else math.nan
