"""What became of a run's instances and of requests that were sent more than once: plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kvsim.plan.cold_start import ColdStart
from kvsim.units import SECONDS_PER_HOUR

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
    times_s: tuple[float, ...]
    serving: tuple[int, ...]
    """From each of ``times_s`` on: instances that answer and take new requests."""
    paid: tuple[int, ...]
    """Likewise: instances that are there at all, those that start, drain or have failed among them."""
    paid_gpus: tuple[int, ...]
    """Likewise: their GPUs."""
    starting: tuple[int, ...] = ()
    """Likewise: instances that were not there and do not serve yet."""

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
        spans = zip(self.paid_gpus, self.times_s, self.times_s[1:], strict=False)
        return sum(gpus * (end_s - begin_s) for gpus, begin_s, end_s in spans)


@dataclass(frozen=True)
class RoleScaling:
    """How many instances of one role were wanted over a run."""

    role: str
    policy: str
    minimum: int
    maximum: int
    cold_start: ColdStart
    times_s: tuple[float, ...]
    wanted: tuple[int, ...]
    """From each of ``times_s`` on."""
    started: int
    """Instances that were ordered, those that came from the other role among them."""
    stopped: int
    """Instances that went, those that went to the other role among them."""
    moved_in: int
    """Instances that came from the other role."""
    turns: int
    """Times that the number wanted went up after it had gone down, or down after it had gone up."""
    paid_gpu_s: float
    least_gpu_s: float
    """GPU-seconds that no policy with as many instances at least can do without: see ``kvsim.sim.fleet.least_work``."""


@dataclass(frozen=True)
class ScalingUse:
    """What became of instances that come and go with the load."""

    roles: tuple[RoleScaling, ...]
    interval_s: float
    """Between two looks."""
    end_s: float
    bin_s: float
    """What each of the next two is counted over."""
    arrivals: tuple[int, ...]
    """Requests that came, bin by bin from 0 on."""
    late: tuple[int, ...]
    """Likewise: requests that missed the SLO, or had no answer, by when they came."""
    slo_share: float
    """Share of the requests of a bin that have to be within the SLO for it not to be violated."""

    @property
    def gpu_h(self) -> float:
        """GPU-hours that were paid."""
        return sum(role.paid_gpu_s for role in self.roles) / SECONDS_PER_HOUR

    @property
    def least_gpu_h(self) -> float:
        """GPU-hours that no policy can do without."""
        return sum(role.least_gpu_s for role in self.roles) / SECONDS_PER_HOUR

    @property
    def gap(self) -> float:
        """Share of the least GPU-hours that were paid beyond them; nan where these are 0."""
        return self.gpu_h / self.least_gpu_h - 1 if self.least_gpu_h else math.nan

    @property
    def late_share(self) -> float:
        """Share of the requests that missed the SLO or had no answer; nan where none came."""
        return sum(self.late) / sum(self.arrivals) if any(self.arrivals) else math.nan

    @property
    def violated_s(self) -> float:
        """Seconds of bins in which too few of the requests that came were served within the SLO."""
        pairs = zip(self.arrivals, self.late, strict=True)
        return self.bin_s * sum(late > (1 - self.slo_share) * came for came, late in pairs)

    @property
    def turns_per_hour(self) -> float:
        """Changes of direction of all roles; nan for an empty run."""
        return sum(role.turns for role in self.roles) * SECONDS_PER_HOUR / self.end_s if self.end_s else math.nan


@dataclass(frozen=True)
class FleetUse:
    """Instances that came and went, and requests that were sent more than once."""

    incidents: tuple[Incident, ...]
    roles: tuple[RoleFleet, ...]
    requests_hit: int
    """Times that a request lost what it had on an instance, or was sent to one that was gone."""
    resent: int
    """Times that the router sent a request again."""
    router_gave_up: int
    """Attempts of clients that failed because the router had sent them again as often as it does."""
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
    scaling: ScalingUse | None = None
    """``None``: the number of instances was nobody's to decide."""
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


def merged_fleet(uses: Sequence[FleetUse | None], end_s: float) -> FleetUse | None:
    """What several systems that share nothing have, as one, up to ``end_s``: of instances that neither come nor go."""
    found = [use for use in uses if use is not None]
    if not found:
        return None
    failed = np.concatenate([np.vstack((use.failed_arrival_s, use.failed_s)) for use in found], axis=1)
    failed = failed[:, np.argsort(failed[1], kind="stable")]
    roles = []
    for own in zip(*(use.roles for use in found), strict=True):
        count, gpus = sum(role.instances for role in own), sum(role.paid_gpus[0] for role in own)
        roles.append(RoleFleet(own[0].role, count, (0.0, end_s), (count,) * 2, (count,) * 2, (gpus,) * 2))
    return FleetUse(
        incidents=tuple(sorted((each for use in found for each in use.incidents), key=lambda each: each.begin_s)),
        roles=tuple(roles),
        requests_hit=sum(use.requests_hit for use in found),
        resent=sum(use.resent for use in found),
        router_gave_up=sum(use.router_gave_up for use in found),
        timed_out=sum(use.timed_out for use in found),
        retried=sum(use.retried for use in found),
        gave_up=sum(use.gave_up for use in found),
        unserved=sum(use.unserved for use in found),
        held=sum(use.held for use in found),
        lost_prefill_tokens=sum(use.lost_prefill_tokens for use in found),
        arrived=sum(use.arrived for use in found),
        again_s=np.sort(np.concatenate([use.again_s for use in found])),
        failed_arrival_s=failed[0],
        failed_s=failed[1],
    )
