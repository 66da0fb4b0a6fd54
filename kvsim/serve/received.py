"""When a request came: before its body was read as JSON, checked and counted, which takes a millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_KEY = "kvsim_received_s"


class StampingProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, and the loop's time at which the last byte of a request was here."""

    def on_message_complete(self) -> None:
        """Told by the parser."""
        self.scope["state"][_KEY] = self.loop.time()
        super().on_message_complete()


def received_s(scope: Mapping[str, Any]) -> float | None:
    """The loop's time at which a request came; ``None``: nobody noted it."""
    found = scope.get("state", {}).get(_KEY)
    return None if found is None else float(found)
