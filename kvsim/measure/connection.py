"""HTTP to one server: as many connections as there are requests in flight, no retries, no redirects, no proxies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp

from kvsim.errors import ConfigError
from kvsim.measure.failure import kind_of, shortened, text_of
from kvsim.measure.settings import Server
from kvsim.measure.stream import Answer, BadAnswerError

KEPT_S = 2.0
"""An idle connection is used again for so long: servers close them, uvicorn after 5 s, and a request that is sent just
then would fail."""
_SPARE_FILES = 64
_ERROR_BYTES = 4096


class Refused(Exception):
    """A status other than 200, with what the server said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Connection:
    """One server, opened."""

    def __init__(self, server: Server, timeout_s: float, connect_timeout_s: float) -> None:
        """To be made within a running event loop."""
        self._server = server
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._headers(), cookie_jar=aiohttp.DummyCookieJar()
        )

    def _headers(self) -> dict[str, str]:
        headers, opens = {"Content-Type": "application/json"}, self._server.authorization
        return headers if opens is None else headers | {"Authorization": opens}

    async def close(self) -> None:
        """Give all connections up."""
        await self._session.close()

    async def stream(self, path: str, body: bytes, answer: Answer, now_s: Callable[[], float]) -> None:
        """Send ``body`` and feed ``answer`` with what comes. Raises ``Refused``, or what ``kind_of`` knows."""
        async with self._session.post(self._server.base + path, data=body, allow_redirects=False) as response:
            if response.status != 200:
                raise Refused(response.status, _said(await response.content.read(_ERROR_BYTES)))
            async for data in response.content.iter_any():
                answer.feed(data, now_s())
                if answer.done:
                    break
        answer.end()

    async def text(self, path: str) -> str:
        """What the server answers to a GET. Raises ``Refused``, or what ``kind_of`` knows."""
        async with self._session.get(self._server.base + path, allow_redirects=False) as response:
            if response.status != 200:
                raise Refused(response.status, _said(await response.content.read(_ERROR_BYTES)))
            return await response.text(errors="replace")

    def failure(self, error: BaseException) -> tuple[str, str]:
        """Kind and text of an error, without secrets: they are looked for before anything of the text is cut."""
        kind = f"http_{error.status}" if isinstance(error, Refused) else kind_of(error)
        return kind, shortened(self._server.masked(text_of(error)))


def _said(body: bytes) -> str:
    """The message of an error, as OpenAI's servers and FastAPI word it, or the text itself."""
    text = body.decode(errors="replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        return text.strip() or "no text"
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)


FAILURES = (aiohttp.ClientError, Refused, BadAnswerError, TimeoutError, OSError, ValueError)
"""What a request may raise that is the server's doing, or the network's."""


def allow_connections(wanted: int | None) -> None:
    """Raise the process's limit of open files as far as it goes.

    Raises ``ConfigError`` where ``wanted`` connections at a time would not fit; ``None``: nobody knows how many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, 1 << 20)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass
    if wanted is not None and wanted + _SPARE_FILES > soft:
        raise ConfigError(
            f"{wanted:,} requests in flight take a connection each, and this process may open {soft:,} files; "
            f"allowed: up to {max(0, soft - _SPARE_FILES):,}, or a higher limit (ulimit -n {wanted + _SPARE_FILES})"
        )
