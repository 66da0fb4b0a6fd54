"""The P:D ratio that loads both sides alike, for runs that nobody gave one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvsim.capacity.maximum_rates import balanced_pd_ratio
from kvsim.capacity.pilot import Measured, Trial, measured_maximum
from kvsim.plan.plan import Plan
from kvsim.record.labels import ratio

_PILOTS = 3
"""Ratios that are tried."""


@dataclass(frozen=True)
class Balanced:
    """A plan at the balanced ratio, which its configuration has, too."""

    plan: Plan
    maximum: Measured | None
    """The PD system's on that plan; ``None``: not measured."""


def balanced(plan: Plan, trial_on: Callable[[Plan], Trial]) -> Balanced:
    """``plan`` at the balanced ratio, by arithmetic with the hits of pilots at the maximum rate.

    The first pilot is at the configured ratio, each other at the one that the pilot before makes of its hits, on which
    the ratio has some influence.
    """
    for _ in range(_PILOTS):
        maximum = measured_maximum(trial_on(plan), "pd", plan.config.load.pilot_requests)
        counts = balanced_pd_ratio(plan, maximum.demand)
        if counts == (plan.num_prefill, plan.num_decode):
            return Balanced(plan, maximum)
        plan = plan.at_ratio(counts)
    return Balanced(plan, None)


def balance_note(plan: Plan) -> str:
    """A note that the ratio was chosen here, and what sets another."""
    counts = ratio((plan.num_prefill, plan.num_decode))
    chosen = f"P:D {counts} is taken, the balanced ratio by arithmetic with the cache hits of short runs"
    return f"{chosen}; pd_separation.pd_ratio sets another"
