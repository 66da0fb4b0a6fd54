"""What stands before the routes: a key, and a limit of what clients may send."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvsim.serve.errors import error_response

GUARDED = "/v1"
"""Below this path a key is wanted, as in vLLM: health and metrics are everybody's."""
BODY_TIMEOUT_S = 60.0
BODIES_AT_A_TIME = 16
"""Bodies of the largest size that are read at the same time."""


class KeyGuard:
    """Asks for one of the keys, of which it keeps hashes alone."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app, self._hashes = app, [_hash(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on whoever has a key, and whoever needs none."""
        is_asked = scope["type"] == "http" and scope["method"] != "OPTIONS" and scope["path"].startswith(GUARDED)
        if is_asked and not self._knows(Headers(scope=scope).get("Authorization", "")):
            await JSONResponse({"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = _hash(key)
        # All of them are compared, so that the time it takes tells nothing.
        matches = [secrets.compare_digest(given, known) for known in self._hashes]
        return scheme.lower() == "bearer" and any(matches)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class BodyGuard:
    """Reads bodies before anybody else does: of a size at most, in a time at most, and not too many of them at once."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests with their body, whole."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        try:
            declared = int(Headers(scope=scope).get("content-length", "0"))
        except ValueError:
            declared = 0
        if declared > self._most_bytes:
            await self._too_large()(scope, receive, send)
            return
        parts: list[bytes] = []
        refusal: JSONResponse | None = None
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                refusal = await self._read(receive, parts)
        except TimeoutError:
            refusal = error_response(
                f"the body did not come within {BODY_TIMEOUT_S:g} seconds", HTTPStatus.REQUEST_TIMEOUT
            )
        finally:
            self._held_bytes -= sum(map(len, parts))
        if refusal is not None:
            refusal.headers["Connection"] = "close"  # what is left of the body is not read
            await refusal(scope, receive, send)
            return
        await self._app(scope, _replaying(b"".join(parts), receive), send)

    async def _read(self, receive: Receive, parts: list[bytes]) -> JSONResponse | None:
        """Collect the body; what to answer where it is too much."""
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return error_response("the client has gone", HTTPStatus.BAD_REQUEST)
            part = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            parts.append(part)
            self._held_bytes += len(part)
            if size > self._most_bytes:
                return self._too_large()
            if self._held_bytes > BODIES_AT_A_TIME * self._most_bytes:
                return error_response("too many large bodies at the same time", HTTPStatus.SERVICE_UNAVAILABLE)
        return None

    def _too_large(self) -> JSONResponse:
        message = f"the body is too large: at most {self._most_bytes:,} bytes"
        return error_response(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The whole body as one message, then what ``receive`` has."""
    is_due = True

    async def replay() -> Message:
        nonlocal is_due
        if is_due:
            is_due = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
