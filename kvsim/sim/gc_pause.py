"""When the collector may look at what a run has built: thousands of engines that refer to themselves."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """A context in which nothing is collected; what it has let go of is, at its end. Nested, it does nothing.

    What was there before is not looked at: libraries and traces would take longer than a small run.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
        gc.unfreeze()
