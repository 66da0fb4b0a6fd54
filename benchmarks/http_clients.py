"""CPU time a streamed token, and how late a first token is read, by two HTTP clients: aiohttp and httpx.

Both send the same requests to the tests' own server in another process and read the answers by kvsim's parser.
``pip install httpx`` first. ``python benchmarks/http_clients.py [STREAMS [TOKENS]]``
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import httpx
import numpy as np

from kvsim.measure.connection import allow_connections
from kvsim.measure.stream import Answer

SERVER = Path(__file__).resolve().parents[1] / "tests" / "model_server.py"
FIRST_S, TOKEN_S, SPREAD_S = 2.0, 0.2, 2.0

Ask = Callable[[str, bytes, Answer], Awaitable[None]]


async def with_aiohttp(url: str, streams: int, tokens: int) -> list[float]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def ask(body: bytes, answer: Answer) -> None:
            async with session.post(url, data=body) as response:
                async for data in response.content.iter_any():
                    answer.feed(data, time.perf_counter())

        return await _all(ask, streams, tokens)


async def with_httpx(url: str, streams: int, tokens: int) -> list[float]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=600, trust_env=False) as client:

        async def ask(body: bytes, answer: Answer) -> None:
            async with client.stream("POST", url, content=body) as response:
                async for data in response.aiter_raw():
                    answer.feed(data, time.perf_counter())

        return await _all(ask, streams, tokens)


async def _all(ask: Callable[[bytes, Answer], Awaitable[None]], streams: int, tokens: int) -> list[float]:
    body = json.dumps({"prompt": list(range(1000, 1200)), "max_tokens": tokens}).encode()

    async def one(place: int) -> float:
        await asyncio.sleep(SPREAD_S * place / streams)
        answer, sent_s = Answer(), time.perf_counter()
        await ask(body, answer)
        answer.end()
        assert answer.tokens == tokens
        return answer.chunk_s[0] - sent_s - FIRST_S

    return await asyncio.gather(*(one(place) for place in range(streams)))


def main() -> None:
    streams, tokens = (int(text) for text in (*sys.argv[1:3], "1000", "50")[:2])
    allow_connections(streams)
    for name, run in (("aiohttp", with_aiohttp), ("httpx", with_httpx)) * 2:
        command = [sys.executable, str(SERVER), str(FIRST_S), str(TOKEN_S)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None and server.stdin is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1/completions"
            cpu_s = time.process_time()
            late_s = asyncio.run(run(url, streams, tokens))
            cpu_s = time.process_time() - cpu_s
            server.stdin.close()
        p50, p99 = np.percentile(late_s, (50, 99)) * 1e3
        each_us = cpu_s / (streams * tokens) * 1e6
        late = f"TTFT late by {p50:.2f} ms, p99 {p99:.2f}"
        print(f"{name:8} {streams:,} streams: {each_us:6.1f} us of CPU a token; {late}")


if __name__ == "__main__":
    main()
