"""The schema of ``fleet`` and ``clients``: instances that fail or are drained, and what whoever sends requests does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Strict

from kvsim.config.section import Count, Factor, Item, NonNegative, Positive, PositiveShare, Section, Share, Whole

EventKind = Literal["fail", "hang", "slow", "nic", "uplink", "pool", "drive", "drain", "rolling_restart"]
EVENT_KINDS: tuple[EventKind, ...] = (
    "fail", "hang", "slow", "nic", "uplink", "pool", "drive", "drain", "rolling_restart",
)  # fmt: skip
RoleName = Literal["colocated", "prefill", "decode"]


class FleetEvent(Item):
    """One entry of ``fleet.events``: what happens to whom, once or at random. What is not given is ``null``."""

    kind: EventKind
    at_s: NonNegative | None = None
    """Simulated time; ``mtbf_h`` instead: at random, after that many hours of one of them on average. What is down does
    not fail, what hangs does not hang once more, and what is slower by ``factor`` not slower by it again, at random."""
    mtbf_h: Positive | None = None
    role: RoleName | None = None
    instance: Whole | None = None
    rack: Whole | None = None
    host: Whole | None = None
    duration_s: NonNegative | None = None
    """How long it lasts; ``mttr_s`` instead: drawn, exponentially; neither: to the end of the run."""
    mttr_s: Positive | None = None
    factor: Factor | None = None
    """``slow``: steps take so many times as long."""
    share: PositiveShare | None = None
    """``nic``, ``uplink``: of its bandwidth that is left."""
    grace_s: NonNegative | None = None
    """``drain``, ``rolling_restart``: after which requests that are still there are lost; ``null``: never."""
    at_once: Count | None = None
    """``rolling_restart``: instances that restart at a time; ``null``: one."""


class Fleet(Section):
    """``fleet``: what happens to instances while they serve."""

    events: Annotated[tuple[FleetEvent, ...], Strict(False)]
    detection_s: NonNegative
    resend: bool
    max_resends: Whole


class Clients(Section):
    """``clients``: how long whoever sends a request waits, and what it does then."""

    timeout_s: Positive | None
    retries: Whole
    backoff_s: NonNegative
    backoff_factor: Factor
    backoff_max_s: NonNegative
    backoff_jitter: Share
