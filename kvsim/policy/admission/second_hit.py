"""Second hit: only what was asked for before enters, so that what is asked for once leaves no trace in the cache."""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.eviction.base import Access


class SecondHit(Admission):
    """The second miss of a key admits it, if fewer than ``capacity_blocks`` other keys were refused since the first.

    Those that were admitted meanwhile do not count.

    Cache-on-second-hit (Maggs and Sitaraman, "Algorithmic Nuggets in Content Delivery", CCR 45(3), 2015), with exact
    memory in place of their Bloom filter.
    """

    name = "second_hit"

    def __init__(self, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        self._refused: OrderedDict[int, None] = OrderedDict()

    def admits(self, key: int, access: Access) -> bool:
        if key in self._refused:
            del self._refused[key]
            return True
        self._refused[key] = None
        if len(self._refused) > self.settings.capacity_blocks:
            self._refused.popitem(last=False)
        return False
