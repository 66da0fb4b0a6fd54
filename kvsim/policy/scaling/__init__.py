"""Scaling policies, by name: one file and one line of the registry each. Policies know nothing of SimPy."""

from __future__ import annotations

from kvsim.policy.registry import Policies, is_own
from kvsim.policy.scaling.base import ScalingPolicy, ScalingSettings, Seen
from kvsim.policy.scaling.nothing import Nothing
from kvsim.policy.scaling.omniscient import Omniscient
from kvsim.policy.scaling.predictive import Predictive
from kvsim.policy.scaling.reactive import Reactive
from kvsim.policy.scaling.scheduled import Scheduled
from kvsim.policy.scaling.steadied import Steadied, SteadySettings

__all__ = ["SCALERS", "ScalingPolicy", "ScalingSettings", "Seen", "Steadied", "SteadySettings", "make_scaling"]

SCALERS: Policies[type[ScalingPolicy]] = Policies(
    "autoscale.policy",
    {
        "none": Nothing,
        "reactive": Reactive,
        "scheduled": Scheduled,
        "predictive": Predictive,
        "omniscient": Omniscient,
    },
    base=ScalingPolicy,
    kind="autoscale.policy",
)


def make_scaling(name: str, settings: ScalingSettings) -> ScalingPolicy:
    """The policy of that name, or of the class that ``package.module:Class`` names.

    Raises ``ConfigError`` for an unknown name, with the nearest, and for settings that it cannot use.
    """
    found = SCALERS.find(name)
    if not is_own(name):
        return found(settings)
    from kvsim.policy.checked_policy import checked_scaling

    return checked_scaling(found, name, settings)
