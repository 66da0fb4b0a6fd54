"""Nothing is brought up before it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.policy.eviction.base import Access
from kvsim.policy.prefetch.base import Prefetch


class Nothing(Prefetch):
    """What a hierarchy does without a prefetcher."""

    name = "none"

    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        return ()
