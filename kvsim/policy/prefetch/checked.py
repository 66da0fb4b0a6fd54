"""A user's own prefetch policy, held to what :class:`Prefetch` promises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kvsim.policy.checked_policy import Guard, shown
from kvsim.policy.eviction.base import Access
from kvsim.policy.prefetch.base import Prefetch, PrefetchSettings


class CheckedPrefetch(Prefetch):
    """Raises ``ConfigError`` when the policy raises something or names what is no key."""

    name = "own"

    def __init__(self, found: type[Prefetch], name: str, settings: PrefetchSettings) -> None:
        super().__init__(settings)
        self._guard = Guard("prefetch", name)
        self._policy = self._guard.call("__init__", found, settings)

    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        answer: object = self._guard.call("after", self._policy.after, path_keys, access)
        if not isinstance(answer, Iterable) or isinstance(answer, str | bytes):
            raise self._guard.error(f"after returned {shown(answer)}; allowed: a sequence of keys")
        return [self._key(each) for each in self._guard.call("after", list, answer)]

    def _key(self, key: object) -> int:
        if isinstance(key, bool) or not isinstance(key, int | np.integer) or key < 0:
            raise self._guard.error(f"after named {shown(key)}; allowed: keys, which are whole numbers >= 0")
        return int(key)
