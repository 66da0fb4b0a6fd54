"""Answers on their way to a client: whole ones, and streams of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from kvsim.serve.errors import error_body, error_response
from kvsim.serve.reply import Reply
from kvsim.serve.wording import DONE, Chunks, Wanted, event, whole

CHUNKS_A_WRITE = 256
UNFIT = "the request fits no instance: its KV needs more blocks than there are"


class Answering(Response):
    """The answer to one HTTP request, whole or as a stream; a client that goes away ends what is still served."""

    def __init__(self, reply: Reply, wanted: Wanted, headers: dict[str, str], *, streams: bool) -> None:
        super().__init__(headers=headers, media_type="text/event-stream" if streams else "application/json")
        self._reply, self._wanted, self._streams, self._own_headers = reply, wanted, streams, headers
        reply.is_streamed = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write it as simulated time lets it come."""
        async with _watched(self._reply, receive):
            if self._reply.refused is not None:
                await error_response(UNFIT, HTTPStatus.BAD_REQUEST)(scope, receive, send)
            elif self._streams:
                await self._stream(send)
            else:
                await self._whole(scope, receive, send)

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = self._reply
        await reply.whole()
        if reply.is_left:
            return
        if reply.refused is not None:
            await error_response(UNFIT, HTTPStatus.BAD_REQUEST)(scope, receive, send)
            return
        body = Response(whole(reply, self._wanted), headers=self._own_headers, media_type=self.media_type)
        await body(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        reply, chunks = self._reply, Chunks(self._reply, self._wanted)
        start = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": start})
        while not reply.is_left:
            body, is_last = chunks.take(CHUNKS_A_WRITE), chunks.is_over
            if is_last:
                body += chunks.end()
            elif reply.refused is not None:
                body, is_last = body + event(error_body(UNFIT, HTTPStatus.BAD_REQUEST)) + DONE, True
            if body:
                # A slow reader's connection holds this up, and nobody else.
                await send({"type": "http.response.body", "body": body, "more_body": not is_last})
            if is_last:
                return
            if not body:
                await reply.more()


@asynccontextmanager
async def _watched(reply: Reply, receive: Receive) -> AsyncIterator[None]:
    """While it is answered, notice that the client goes."""
    watcher = asyncio.ensure_future(_gone(receive, reply))
    try:
        yield
    finally:
        watcher.cancel()
        reply.close()


async def _gone(receive: Receive, reply: Reply) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reply.leave()
