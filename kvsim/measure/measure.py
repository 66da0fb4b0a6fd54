"""``measure``: the one call that measures a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvsim.errors import ConfigError
from kvsim.event_loop import event_loop
from kvsim.measure.result import MeasuredRun
from kvsim.measure.settings import Sending, Server
from kvsim.workload.workload import Workload


def measure(
    server: Server,
    workload: Workload,
    sending: Sending | None = None,
    *,
    words: str = "",
    seed: int | None = None,
    progress: Callable[[int, float], None] | None = None,
    content: Workload | None = None,
) -> MeasuredRun:
    """Send ``workload`` to ``server`` and time every token; an interrupt (Ctrl-C) ends it early and marks the result.

    ``words`` and ``seed`` say in the result what was sent; ``progress(ended, now_s)`` is told of every request that
    has ended. ``content``: a workload of which ``workload`` is a part, where other parts are sent as well: a chain has
    the same tokens in all of them. Raises ``ConfigError`` where the server cannot be measured.
    """
    ensure_client()
    from kvsim.measure.measuring import Measurement, check

    asked = sending or Sending()
    check(asked, workload)
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(Measurement(server, workload, asked, words, seed, progress, content).run())


def ensure_client() -> None:
    """Raise ``ConfigError`` where the package is missing that speaks HTTP."""
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise ConfigError("measuring a server needs an HTTP client: pip install 'kvsim[live]'") from None
