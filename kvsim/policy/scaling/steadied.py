"""What keeps the number of instances from going up and down all the time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class SteadySettings:
    """As the keys of ``autoscale`` that have these names."""

    minimum: int
    maximum: int
    stabilisation_s: float
    cooldown_up_s: float
    cooldown_down_s: float
    max_step_up: int | None
    max_step_down: int | None


class Steadied:
    """Bounds, stabilisation window, cool-downs and largest steps of one role.

    The window is that of Kubernetes' Horizontal Pod Autoscaler: of what was wanted in so many seconds the most counts
    before instances go. Cool-downs begin with any change.
    """

    def __init__(self, settings: SteadySettings) -> None:
        self.settings = settings
        self._wanted: deque[tuple[float, int]] = deque()
        """Times, and the most that has been wanted from each on."""
        self._changed_s = -math.inf

    def decided(self, now_s: float, wanted: int | None, current: int, *, is_steadied: bool) -> int:
        """Instances that there are to be, of ``current`` ones; ``wanted`` by the policy, ``None``: no others."""
        settings = self.settings
        found = min(max(current if wanted is None else wanted, settings.minimum), settings.maximum)
        if is_steadied:
            found = self._steady(now_s, found, current)
        found = min(max(found, settings.minimum), settings.maximum)
        if found != current:
            self._changed_s = now_s
        return found

    def _steady(self, now_s: float, found: int, current: int) -> int:
        settings = self.settings
        most = self._most_since(now_s - settings.stabilisation_s, now_s, found)
        if found < current:
            found = min(most, current)
        since_s = now_s - self._changed_s
        if since_s < (settings.cooldown_up_s if found > current else settings.cooldown_down_s):
            return current
        if settings.max_step_up is not None:
            found = min(found, current + settings.max_step_up)
        if settings.max_step_down is not None:
            found = max(found, current - settings.max_step_down)
        return found

    def _most_since(self, since_s: float, now_s: float, found: int) -> int:
        wanted = self._wanted
        while wanted and wanted[-1][1] <= found:
            wanted.pop()
        wanted.append((now_s, found))
        while wanted[0][0] < since_s:
            wanted.popleft()
        return wanted[0][1]
