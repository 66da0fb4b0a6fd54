"""Equal requests that share nothing: the traffic of queueing theory, and of hand calculations."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.info import NONE_ALIKE, WorkloadInfo
from kvsim.workload.workload import Workload

ARRIVALS = ("poisson", "constant")


def fixed(
    num_requests: int,
    rate_per_s: float,
    prompt_tokens: int,
    output_tokens: int,
    arrivals: Literal["poisson", "constant"],
    seed: int,
) -> Workload:
    """``num_requests`` requests of one length, at exponential gaps or at equal ones, the first after one gap.

    Raises ``WorkloadError`` for anything below one request, one token or a positive rate.
    """
    for name, value in (("requests", num_requests), ("prompt tokens", prompt_tokens), ("output tokens", output_tokens)):
        if value < 1:
            raise WorkloadError(f"number of {name} is {value}; allowed: 1 or more")
    if not 0 < rate_per_s < np.inf:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
    if arrivals not in ARRIVALS:
        raise WorkloadError(f"arrivals '{arrivals}' are unknown; {nearest(arrivals, ARRIVALS)}")
    if arrivals == "poisson":
        arrival_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, num_requests))
    else:
        arrival_s = np.arange(1, num_requests + 1) / rate_per_s
    return Workload.private(
        arrival_s,
        np.full(num_requests, prompt_tokens, dtype=np.int32),
        np.full(num_requests, output_tokens, dtype=np.int32),
        WorkloadInfo(
            source=f"synthetic {arrivals} arrivals of equal requests",
            format="synthetic",
            infinite_cache_hit_rate_tokens=0.0,
            notes=(NONE_ALIKE,),
        ),
    )
