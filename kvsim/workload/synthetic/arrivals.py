"""When requests arrive: evenly, at random, in bursts, or by the time of day."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kvsim.errors import WorkloadError, nearest
from kvsim.workload.workload import Floats

ARRIVALS = ("poisson", "constant", "gamma", "on_off", "diurnal")
Arrivals = Literal["poisson", "constant", "gamma", "on_off", "diurnal"]
ON_SHARE = 0.25
"""Share of an on-off period in which all requests arrive, at four times the mean rate."""

DAY_S, NIGHT_S = 86_400.0, 4 * 3600.0
"""A day, and the hour of it at which the fewest requests come, in seconds from midnight."""
DAY_SWING = 0.6
"""By how much of the mean the rate of a day goes up and down: at 16 h four times as many come as at 4 h."""


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
    ``on_off``: Poisson in the first quarter of every ``period_s``, silence in the rest. ``diurnal``: Poisson at the
    rate of the time of day, from midnight on.
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
    if kind == "diurnal":
        return by_day(times_s)
    # Time runs only while it is on: a Poisson process there, cut up and moved apart.
    on_s = times_s * ON_SHARE
    return np.floor(on_s / (period_s * ON_SHARE)) * period_s + on_s % (period_s * ON_SHARE)


def by_day(even_s: Floats) -> Floats:
    """Times of a Poisson process of one rate moved to where one that follows the day has them: as many have come.

    The curve is a cosine, as load that people make goes up by day and down by night; Azure's services of May 2024 do
    (Stojkovic et al., DynamoLLM, HPCA 2025, and the trace beside it).
    """
    grid_s = np.linspace(0.0, DAY_S, 8641)
    turn = 2 * np.pi / DAY_S
    swung_s = grid_s - DAY_SWING / turn * (np.sin(turn * (grid_s - NIGHT_S)) + np.sin(turn * NIGHT_S))
    days = np.floor(even_s / DAY_S)
    found: Floats = days * DAY_S + np.interp(even_s - days * DAY_S, swung_s, grid_s)
    return found
