"""Scaling by somebody who knows every request that is to come."""

from __future__ import annotations

import math

from kvsim.policy.scaling.base import ScalingPolicy, Seen


class Omniscient(ScalingPolicy):
    """The fewest instances that have the work of every interval done at the target load, each ordered a cold start
    before it is needed.

    An instance stays where it would be needed again within a cold start: it would be paid as long while it starts.
    """

    name = "omniscient"
    is_steadied = False

    def first(self) -> int | None:
        return self._needed(0.0)

    def wanted(self, seen: Seen) -> int | None:
        return self._needed(seen.now_s)

    def _needed(self, now_s: float) -> int:
        settings = self.settings
        ahead_s = math.ceil(settings.cold_start_s / settings.interval_s) * settings.interval_s + settings.interval_s
        load = settings.load_ahead(now_s, now_s + ahead_s)
        return math.ceil(round(load / settings.target_load, 9))
