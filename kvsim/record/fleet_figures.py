"""What a report says of a fleet: every figure under its name, with its unit; ``None`` where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Recovery = Literal["never_outside", "recovered", "not_by_the_end", "too_few_requests"]
"""Whether requests came back within the SLO's TTFT: :meth:`kvsim.record.recovery.Windows.recovery`."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """Requests that came before, during or after an incident: :func:`kvsim.record.recovery.phases`."""

    requests: int
    failed: int
    """Without an answer."""
    within_ttft: float | None
    """Share whose first token came within the limit of TTFT; failed ones did not."""
    ttft_p50_ms: float | None
    """Answered requests alone count, as for p99."""
    ttft_p99_ms: float | None


@dataclass(frozen=True, kw_only=True)
class IncidentFigures:
    """One thing that happened to a part of a cluster, and how requests fared."""

    kind: str
    where: str
    begin_s: float
    end_s: float | None
    """``None``: not until the run ended."""
    instances: int
    """Instances that it was about."""
    requests_hit: int
    """Requests that lost what they had on an instance."""
    lost_prefill_tokens: int
    """Tokens of their prompts that had been computed there."""
    recovery: Recovery
    recovery_s: float | None
    """From its begin until requests kept the SLO's TTFT again."""
    before: Around
    during: Around
    after: Around


@dataclass(frozen=True, kw_only=True)
class AttemptsBin:
    """A span of time, and what was sent in it."""

    begin_s: float
    length_s: float
    requests: int
    """Requests that came."""
    sent_again: int
    amplification: float


@dataclass(frozen=True, kw_only=True)
class Storm:
    """Attempts over requests that came: of the whole run, and where it was most."""

    amplification: float | None
    worst: AttemptsBin | None
    """``None``: at no time more than in the whole run, while enough requests came to tell."""


@dataclass(frozen=True, kw_only=True)
class RoleService:
    """Instances of one role that served, and that were there at all, over the measured window and over time."""

    instances: int
    mean_serving: float | None
    fewest_serving: int
    """At any time of the run."""
    mean_paid: float | None
    gpu_hours: float | None
    times_s: tuple[float, ...]
    serving: tuple[int, ...]
    """From each of ``times_s`` on, as ``paid``."""
    paid: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TtftOverTime:
    """Requests by their arrival, in equal bins of time from 0 on; the last one has its end."""

    bin_s: float
    requests: tuple[int, ...]
    failed: tuple[int, ...]
    sent_again: tuple[int, ...]
    """By when that was."""
    ttft_p50_ms: tuple[float | None, ...]
    ttft_p99_ms: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class FleetFigures:
    """Instances that came and went, and requests that were sent more than once, over the whole run."""

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
    """Requests whose clients gave up for good."""
    unserved: int
    """Requests that nobody was left to serve."""
    failed_in_window: int
    """Requests of both kinds that came in the measured window."""
    held: int
    """Times that a request waited at the router until an instance could take it."""
    lost_prefill_tokens: int
    """Tokens of prompts that were computed for attempts that came to nothing."""
    storm: Storm
    instances: Mapping[str, RoleService]
    window_requests: int
    """Requests that came one after the other, of which the SLO's share has to keep its TTFT."""
    slo_share: float
    incidents: tuple[IncidentFigures, ...]
    over_time: TtftOverTime | None
