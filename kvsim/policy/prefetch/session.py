"""Session: the next turn of a conversation begins with all of the last one."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.policy.eviction.base import Access
from kvsim.policy.prefetch.base import Prefetch


class SessionPrefetch(Prefetch):
    """The prompt just served, to be there again before its session's next turn; nothing where there is no session."""

    name = "session"

    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        return path_keys if access.session_id >= 0 else ()
