"""Instances by the clock, as a cron scaler has them."""

from __future__ import annotations

from kvsim.policy.scaling.base import ScalingPolicy, ScalingSettings, Seen


class Scheduled(ScalingPolicy):
    """From each time of a list on so many instances; before the first of them as many as there are."""

    name = "scheduled"
    is_steadied = False

    def __init__(self, settings: ScalingSettings) -> None:
        super().__init__(settings)
        self._entries = settings.schedule

    def first(self) -> int | None:
        return self._at(0.0)

    def wanted(self, seen: Seen) -> int | None:
        return self._at(seen.now_s)

    def _at(self, now_s: float) -> int | None:
        found = [instances for at_s, instances in self._entries if at_s <= now_s]
        return found[-1] if found else None
