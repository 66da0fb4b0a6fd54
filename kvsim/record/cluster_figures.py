"""What a report says of a cluster of several models as a whole; ``None``: not known, or of nothing."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.record.figures import Quantiles


@dataclass(frozen=True, kw_only=True)
class PeakGpus:
    """GPUs of one kind that were there at a time, where instances of a model come and go with the load."""

    gpu: str
    together: int
    """The most at one moment, over all models."""
    at_s: float
    """The first such moment, in simulated time."""
    apart: int
    """Each model's own most, added up."""
    until_s: float
    """Moments from 0 on to then are looked at: the end of the run that ended first."""
    has_more_later: bool = False
    """Whether a model had more GPUs than its ``apart`` after ``until_s``."""


@dataclass(frozen=True, kw_only=True)
class ClusterTotals:
    """All models together, served by the system of that name.

    Models are measured over windows of their own, which may differ in length. Counts, hours, money and energy are sums
    over these windows; whatever is by the second, the token or the request is of all models side by side, each at its
    own rate.
    """

    name: str
    gpus: int
    instances: int
    requests: int
    """Completed in the windows."""
    requests_per_s: float | None
    output_tokens_per_s: float | None
    ttft_ms: Quantiles
    """Over the measured requests of all models, so weighed that a model's count as many as it completes in a second."""
    tpot_ms: Quantiles
    goodput_requests_per_s: float | None
    """Within the SLO of their own model."""
    goodput_share: float | None
    prefix_hit_rate: float | None
    """Share of prompt tokens, those of each model at the rate at which its requests are completed."""
    gpu_hours: float | None
    usd: float | None
    usd_per_hour: float | None
    usd_per_million_output_tokens: float | None
    kwh: float | None
    joules_per_output_token: float | None
    peak_gpus: tuple[PeakGpus, ...] | None = None
    """By kind; ``None``: no model scales, or moments of models are not the same."""
