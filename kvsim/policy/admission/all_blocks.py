"""Everything enters."""

from __future__ import annotations

from kvsim.policy.admission.base import Admission
from kvsim.policy.eviction.base import Access


class AllBlocks(Admission):
    """What a cache does that nobody stands before."""

    name = "all"

    def admits(self, key: int, access: Access) -> bool:
        return True
