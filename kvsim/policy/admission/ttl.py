"""Time to live: everything enters, and counts as absent once it was not asked for long enough."""

from __future__ import annotations

import math
from collections import OrderedDict

from kvsim.errors import ConfigError
from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.eviction.base import Access

KEPT = 4
"""Times the capacity: keys that are remembered although they expired, for times that go back."""


class Ttl(Admission):
    """Blocks live ``ttl_s`` from their last use, as prompt caches are sold; one that old to the moment still counts.

    Times may go back from one access to the next; what counts is the latest use of each key. It remembers all keys
    used in the last ``ttl_s`` before the latest time seen, and ``KEPT`` times the capacity of those used last: a key
    that it does not know has expired.
    """

    name = "ttl"

    def __init__(self, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        if settings.ttl_s is None or not settings.ttl_s > 0:
            raise ConfigError(f"ttl: a time to live of {settings.ttl_s} s; allowed: a number > 0")
        self._ttl_s = settings.ttl_s
        self._last_use_s: OrderedDict[int, float] = OrderedDict()
        """Last used last, which is the order of their times as long as those do not go back."""
        self._latest_s = -math.inf
        self._kept = KEPT * settings.capacity_blocks

    def admits(self, key: int, access: Access) -> bool:
        self._use(key, access.time_s)
        return True

    def expired(self, key: int, access: Access) -> bool:
        last_use_s = self._last_use_s.get(key, -math.inf)
        if access.time_s - last_use_s > self._ttl_s:
            return True
        self._use(key, access.time_s)
        return False

    def _use(self, key: int, now_s: float) -> None:
        uses = self._last_use_s
        uses[key] = max(now_s, uses.get(key, -math.inf))
        uses.move_to_end(key)
        self._latest_s = max(self._latest_s, now_s)
        while len(uses) > self._kept and self._latest_s - next(iter(uses.values())) > self._ttl_s:
            uses.popitem(last=False)
