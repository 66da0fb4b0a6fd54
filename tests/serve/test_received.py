"""When a request came, and a loop that wakes in time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
import uvicorn

from kvsim.event_loop import event_loop
from kvsim.serve.received import StampingProtocol, received_s

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


def test_a_request_came_with_the_last_byte_of_its_body() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        seen["before"], seen["called_s"] = received_s(scope), loop.time()
        while (await receive()).get("more_body"):
            pass
        time.sleep(0.02)  # what reading the body takes
        seen["came_s"], seen["read_s"] = received_s(scope), loop.time()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(app, http=StampingProtocol, lifespan="off", log_level="error"))
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            serving = asyncio.ensure_future(server.serve([listening]))
            while not server.started:
                await asyncio.sleep(0.005)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(HEAD + b"a")
            await asyncio.sleep(0.05)
            writer.write(b"b")
            assert (await reader.readline()).startswith(b"HTTP/1.1 204")
            writer.close()
            server.should_exit = True
            await serving

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(main())
    assert seen["before"] is None
    assert seen["came_s"] - seen["called_s"] > 0.045
    assert seen["read_s"] - seen["came_s"] >= 0.02


def test_nobody_noted_when_it_came() -> None:
    assert received_s({"type": "http"}) is None


def test_the_loop_wakes_for_timers_for_files_and_for_other_threads() -> None:
    async def main() -> tuple[float, bytes, str]:
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        await asyncio.sleep(0.0123)
        slept_s = loop.time() - before_s
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            waiting = asyncio.ensure_future(loop.sock_recv(one, 8))
            await asyncio.sleep(0)
            loop.call_later(0.001, other.send, b"hello")
            data = await asyncio.wait_for(waiting, 5)
        found: asyncio.Future[str] = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(found.set_result, "thread")).start()
        return slept_s, data, await asyncio.wait_for(found, 5)

    with asyncio.Runner(loop_factory=event_loop) as runner:
        slept_s, data, told = runner.run(main())
    assert slept_s >= 0.0123 and data == b"hello" and told == "thread"


@pytest.mark.parametrize("timeout", [None, 0.0])
def test_a_loop_that_need_not_wait_for_a_time_waits_as_python_does(timeout: float | None) -> None:
    loop = event_loop()
    try:
        selector: Any = loop._selector  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(lambda: None)  # something to read
        assert selector.select(timeout)
    finally:
        loop.close()
