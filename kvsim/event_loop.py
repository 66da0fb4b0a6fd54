"""An event loop that wakes when it is asked to, where Python's own may sleep up to a millisecond more.

Linux's ``epoll_wait`` counts milliseconds, and Python rounds up to them; ``select`` counts microseconds, and can wait
for a whole epoll set as for one file.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys

if sys.platform == "linux":
    _MOST_FILES = 1024
    """``select`` knows no file of this number or a larger one."""

    class _Selector(selectors.EpollSelector):
        """Waits for the very time."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """As the base class."""
            if timeout is None or timeout <= 0 or self.fileno() >= _MOST_FILES:
                return super().select(timeout)
            select.select((self.fileno(),), (), (), timeout)
            return super().select(0)

else:
    _Selector = selectors.DefaultSelector


def event_loop() -> asyncio.AbstractEventLoop:
    """A new loop."""
    return asyncio.SelectorEventLoop(_Selector())
