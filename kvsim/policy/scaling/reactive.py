"""Reactive scaling by one metric, as the Horizontal Pod Autoscaler of Kubernetes and KEDA, which feeds it, do."""

from __future__ import annotations

import math

from kvsim.policy.scaling.base import ScalingPolicy, Seen

_DIGITS = 9
"""Digits of a ratio that count: two ways to add up the same numbers must not give different instances."""


class Reactive(ScalingPolicy):
    """Instances enough to share the metric at its target each, rounded up; those that start count with nothing.

    Kubernetes' rule (kubernetes.io, "Horizontal Pod Autoscaling", details of the algorithm): replicas x metric /
    target, rounded up, unless that ratio is within the tolerance of 1. A mean TTFT is no sum: there it is instances
    that serve x TTFT / target, and never fewer than there are while the target is missed.
    """

    name = "reactive"

    def wanted(self, seen: Seen) -> int | None:
        settings = self.settings
        if settings.metric == "ttft":
            if math.isnan(seen.ttft_s) or not seen.serving:
                return None
            ratio = round(seen.ttft_s / settings.target, _DIGITS)
            found = math.ceil(seen.serving * ratio)
            found = max(found, seen.current) if ratio > 1 else found
        else:
            total: float = getattr(seen, settings.metric)
            found = math.ceil(round(total / settings.target, _DIGITS))
            ratio = round(total / (settings.target * max(seen.current, 1)), _DIGITS)
        return None if round(abs(ratio - 1), _DIGITS) <= settings.tolerance else found
