"""When requests arrive: evenly, at random, or in bursts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.workload import Floats

ARRIVALS = ("poisson", "constant", "gamma", "on_off")
Arrivals = Literal["poisson", "constant", "gamma", "on_off"]
ON_SHARE = 0.25
"""Share of an on-off period in which all requests arrive, at four times the mean rate."""


def arrival_times(
    kind: str,
    num_requests: int,
    rate_per_s: float,
    random: np.random.Generator,
    *,
    cv: float = 2.0,
    period_s: float = 60.0,
) -> Floats:
    """``num_requests`` times in seconds, ascending, at a mean of ``rate_per_s``; an infinite rate puts all at 0.

    ``gamma``: gaps with coefficient of variation ``cv`` (1 is Poisson; ``vllm bench serve`` calls 1 / cv^2 burstiness).
    ``on_off``: Poisson in the first quarter of every ``period_s``, silence in the rest.
    """
    if kind not in ARRIVALS:
        raise WorkloadError(f"arrivals '{kind}' are unknown; {nearest(kind, ARRIVALS)}")
    if not rate_per_s > 0:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a number > 0, or inf")
    if np.isinf(rate_per_s):
        return np.zeros(num_requests)
    if kind == "constant":
        return np.arange(1, num_requests + 1) / rate_per_s
    if kind == "gamma":
        shape = 1 / cv**2
        return np.cumsum(random.gamma(shape, 1 / (shape * rate_per_s), num_requests))
    times_s = np.cumsum(random.exponential(1 / rate_per_s, num_requests))
    if kind == "poisson":
        return times_s
    # Time runs only while it is on: a Poisson process there, cut up and moved apart.
    on_s = times_s * ON_SHARE
    return np.floor(on_s / (period_s * ON_SHARE)) * period_s + on_s % (period_s * ON_SHARE)
