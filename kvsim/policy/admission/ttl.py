"""Time to live: everything enters, and counts as absent once it was not asked for long enough."""

from __future__ import annotations

from collections import OrderedDict

from kvsim.errors import ConfigError
from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.eviction.base import Access


class Ttl(Admission):
    """Blocks live ``ttl_s`` from their last use, as prompt caches are sold; one that old to the moment still counts.

    It remembers the keys used in the last ``ttl_s`` and no others: a key that it does not know has expired.
    """

    name = "ttl"

    def __init__(self, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        if settings.ttl_s is None or not settings.ttl_s > 0:
            raise ConfigError(f"ttl: a time to live of {settings.ttl_s} s; allowed: a number > 0")
        self._ttl_s = settings.ttl_s
        self._last_use_s: OrderedDict[int, float] = OrderedDict()
        """Oldest use first."""

    def admits(self, key: int, access: Access) -> bool:
        self._use(key, access.time_s)
        return True

    def expired(self, key: int, access: Access) -> bool:
        self._forget_before(access.time_s - self._ttl_s)
        if key not in self._last_use_s:
            return True
        self._use(key, access.time_s)
        return False

    def _use(self, key: int, now_s: float) -> None:
        self._last_use_s[key] = now_s
        self._last_use_s.move_to_end(key)
        self._forget_before(now_s - self._ttl_s)

    def _forget_before(self, limit_s: float) -> None:
        uses = self._last_use_s
        while uses and next(iter(uses.values())) < limit_s:
            uses.popitem(last=False)
