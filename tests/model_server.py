"""An OpenAI-compatible server over bare sockets that knows nothing of kvsim: answers come when it is told they do.

Its own clock says when each token was written, which a client's figures are held against. ``python model_server.py
FIRST_S TOKEN_S`` serves until it is ended, and prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MODEL = "model-of-tests"


@dataclass
class Behaviour:
    """How it answers."""

    first_s: float = 0.02
    token_s: float = 0.002
    chunk: int = 1
    """Tokens an event."""
    owner: str = "someone"
    version: str | None = None
    models: tuple[str, ...] = (MODEL,)
    counts: str = "running"
    """Tokens are counted: ``running`` (where asked to), at the ``end``, or not at all (``""``)."""
    names_tokens: bool = True
    details: bool = True
    refuses: frozenset[str] = frozenset()
    """Keys of a body that it does not take."""
    key: str | None = None
    fails: dict[int, str] = field(default_factory=dict)
    """By request after the first, which is the client's probe: ``cut``, ``bad``, ``error``, ``hang``, ``empty``, or a
    status."""
    stops: int | None = None
    """Answers end after so many tokens."""
    metrics: Callable[[Model], str] | None = None
    count_tokens: Callable[[str], int] | None = None
    template: tuple[int, int] = (0, 0)
    models_status: int = 200
    omits_nothing: bool = False
    """Details of a prompt are left out where nothing of it was cached."""
    echoes: bool = False
    """Errors repeat the header with the key, as it was sent."""


@dataclass
class Seen:
    """One request."""

    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    arrived_s: float
    written_s: list[float] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    cached: int = 0

    @property
    def prompt(self) -> Any:
        return self.body.get("prompt", self.body.get("messages"))


class Model:
    """The server, in a thread of its own."""

    def __init__(self, behaviour: Behaviour | None = None, port: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.seen: list[Seen] = []
        self.running, self.most_running = 0, 0
        self.port = port
        self._known: list[list[int]] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def measured(self) -> list[Seen]:
        """Without the probe's."""
        return self.seen[1:]

    def __enter__(self) -> Model:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=4096)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        told = self.behaviour
        if told.key is not None and headers.get("authorization") != f"Bearer {told.key}":
            said = headers.get("authorization", "nothing")
            _reply(writer, 401, json.dumps({"error": {"message": f"wrong key: {said}"}}))
        elif (method, path) == ("GET", "/v1/models"):
            entries = [{"id": name, "owned_by": told.owner, "max_model_len": 4096} for name in told.models]
            _reply(writer, told.models_status, json.dumps({"object": "list", "data": entries}))
        elif (method, path) == ("GET", "/version") and told.version:
            _reply(writer, 200, json.dumps({"version": told.version}))
        elif (method, path) == ("GET", "/metrics") and told.metrics:
            _reply(writer, 200, told.metrics(self))
        elif method == "POST":
            return await self._answer(path, headers, json.loads(body), writer)
        else:
            _reply(writer, 404, '{"detail": "Not Found"}')
        await writer.drain()
        return True

    async def _answer(
        self, path: str, headers: dict[str, str], body: dict[str, Any], writer: asyncio.StreamWriter
    ) -> bool:
        told, arrived_s = self.behaviour, time.perf_counter()
        refused = (body.keys() | body.get("stream_options", {}).keys()) & told.refuses
        if refused or (isinstance(body.get("prompt"), list) and "token ids" in told.refuses):
            _reply(writer, 400, json.dumps({"error": {"message": f"unknown: {', '.join(sorted(refused))}"}}))
            await writer.drain()
            return True
        seen = Seen(body, headers, path, arrived_s)
        fault = told.fails.get(len(self.seen) - 1, "")
        self.seen.append(seen)
        if fault.isdigit():
            said = f" {headers.get('authorization')}" if told.echoes else ""
            _reply(writer, int(fault), json.dumps({"error": {"message": f"as told\nto fail{said}"}}))
            await writer.drain()
            return True
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._stream(seen, fault, writer)
        finally:
            self.running -= 1

    async def _stream(self, seen: Seen, fault: str, writer: asyncio.StreamWriter) -> bool:
        told, body = self.behaviour, seen.body
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        wanted = body["max_tokens"] if told.stops is None else min(told.stops, body["max_tokens"])
        seen.answer = [20_000 + (len(self.seen) * 7 + at) % 5000 for at in range(wanted)]
        chat, options = "messages" in body, body.get("stream_options", {})
        prompt_tokens = self._prompt_tokens(seen)
        if chat:
            _event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(max(0.0, seen.arrived_s + told.first_s - time.perf_counter()))
        if fault == "hang":
            await asyncio.sleep(3600)
        due_s, at = time.perf_counter(), 0
        while at < wanted:
            ids = seen.answer[at : at + told.chunk]
            at += len(ids)
            text = "".join(f" w{each}" for each in ids)
            choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if at == wanted else None}
            choice |= {"delta": {"content": text}} if chat else {"text": text}
            if told.names_tokens and body.get("return_token_ids"):
                choice["token_ids"] = ids
            event: dict[str, Any] = {"choices": [choice]}
            if told.counts == "running" and options.get("continuous_usage_stats"):
                event["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": at}
            if fault == "empty":
                choice["text"], choice["token_ids"] = "", []
                event.pop("usage", None)
            # Before, not after: a client on another core may have read it while this one goes on.
            seen.written_s += [time.perf_counter()] * len(ids)
            _event(writer, event)
            if at > wanted // 2 and fault in ("cut", "bad", "error"):
                return await _fail(writer, fault)
            if at < wanted:
                due_s += told.token_s * told.chunk
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        self._known.append([*seen.prompt, *seen.answer] if isinstance(seen.prompt, list) and not chat else [])
        if told.counts and options.get("include_usage") and fault != "empty":
            usage: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": wanted}
            if told.details and (seen.cached or not told.omits_nothing):
                usage["prompt_tokens_details"] = {"cached_tokens": seen.cached}
            _event(writer, {"choices": [], "usage": usage})
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _prompt_tokens(self, seen: Seen) -> int:
        """Of ids there are as many as there are, and cached is the longest head that was seen before."""
        prompt, told = seen.prompt, self.behaviour
        if isinstance(prompt, str):
            return told.count_tokens(prompt) if told.count_tokens is not None else len(prompt.split())
        if prompt and isinstance(prompt[0], dict):
            count = told.count_tokens or (lambda text: len(text.split()))
            return (
                sum(count(each["content"]) for each in prompt)
                + told.template[0]
                + told.template[1] * (len(prompt) // 2)
            )
        seen.cached = max((_common(known, prompt) for known in self._known), default=0)
        return len(prompt)


def _common(first: list[int], second: list[int]) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


async def _fail(writer: asyncio.StreamWriter, fault: str) -> bool:
    if fault == "error":
        _event(writer, {"error": {"message": "engine died", "code": 500}})
        writer.write(b"0\r\n\r\n")
    elif fault == "bad":
        _event(writer, "{no json")
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return fault != "cut"


def _event(writer: asyncio.StreamWriter, what: Any) -> None:
    data = f"data: {what if isinstance(what, str) else json.dumps(what)}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _reply(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    data = text.encode()
    writer.write(
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data)
    )


if __name__ == "__main__":
    with Model(Behaviour(first_s=float(sys.argv[1]), token_s=float(sys.argv[2]))) as model:
        print(model.port, flush=True)
        sys.stdin.read()
