"""A decode instance whose KV blocks are the limit: how much of them stands empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.workload.workload import Floats

ADMISSIONS = 3000
"""Admissions averaged over: the mean room is known within a few percent, and it is a few percent of the pool."""


@dataclass(frozen=True, eq=False)
class Churn:
    """What comes and goes in a full pool; tokens, one entry a request for arrays."""

    needs: Floats
    """Room a request must find to be admitted."""
    releases: Floats
    """Room it leaves behind."""
    completions_per_step: float
    growth_per_step: float
    """Room that those inside take each step beyond what was kept for them: that costs nobody a block."""


def empty_tokens(churn: Churn, seed: int) -> float:
    """Room that is free because the next request does not fit, in the mean over steps.

    Completions are Poisson in steps, since answers end independently; what they release goes to the first in the queue
    as soon as it fits *whole*, and nobody overtakes it. What is left over is too little for the head of the queue: for
    needs L and steady releases E[L^2] / (2 E[L]) on average, but releases come in lumps, so the recursion is run.
    """
    random = np.random.default_rng(seed)
    entering = churn.needs[evenly(churn.needs, random, ADMISSIONS)].tolist()
    leaving = churn.releases[evenly(churn.releases, random, ADMISSIONS)].tolist()
    gaps = random.exponential(1.0, ADMISSIONS)
    at_step = np.floor(np.cumsum(gaps) * (ADMISSIONS / gaps.sum() / churn.completions_per_step)).astype(np.int64)
    step, empty, total = 0, 0.0, 0.0
    entering.reverse()
    for until, released in zip(at_step.tolist(), leaving, strict=True):
        quiet = until - step
        if quiet > 0:
            growth = churn.growth_per_step * quiet
            total += max(empty - growth / 2, 0.0) * quiet
            empty -= growth
            step = until
        empty += released
        while entering and entering[-1] <= empty:
            empty -= entering.pop()
    return total / max(step, 1)


def evenly(values: Floats, random: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """``count`` rows in random order, as many from every quantile: lengths have heavy tails, and the mean of a plain
    sample would be percents off."""
    order = np.argsort(values, kind="stable")
    place = (np.arange(count) + random.random(count)) * (len(values) / count)
    return random.permutation(order[place.astype(np.int64)])
