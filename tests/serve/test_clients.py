"""Clients that leave, read slowly, hold wrong keys or come in too great a number; every request is accounted for."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time

import httpx
import pytest
from live_server import MODEL, SMALL, Live, serving

REASONS = ("stop", "length", "abort", "error")


def ended(live: Live) -> dict[str, float]:
    metrics = live.metrics()
    return {reason: metrics[f"vllm:request_success_total/{reason}"] for reason in REASONS}


def is_free(live: Live) -> bool:
    """Whether nothing is held, by the books of the simulation, once the step is over in which the last client left."""
    serving_ = live.engine.pump.serving
    for _ in range(200):
        state = serving_.state()
        if state.free_blocks == state.total_blocks and not state.in_flight:
            serving_.check_integrity()
            return True
        time.sleep(0.02)
    return False


def request_of(body: dict[str, object]) -> bytes:
    """A completion, as HTTP has it."""
    content = json.dumps(body).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
    )


async def read_until(url: str, body: dict[str, object], tokens: int | None) -> None:
    """Ask, and leave after so many tokens; ``None``: read all of it."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_of(body))
    received = b""
    while tokens is None or received.count(b"data: {") < tokens:
        part = await reader.read(65_536)
        if not part:
            break
        received += part
    assert tokens is not None or b'"finish_reason":"length"' in received, received
    writer.close()


def test_two_hundred_streams_with_cuts_and_all_blocks_free() -> None:
    """Each is read to its end, or left behind before, with or after its first token; every fifth is not streamed."""
    with serving(MODEL, *SMALL, speed=20.0) as live:
        drawn = random.Random(7)
        cuts = [drawn.choice((None, 0, 1, 3)) for _ in range(200)]

        async def everybody() -> None:
            async def one(number: int) -> None:
                prompt = [number] * drawn.randint(1, 90)
                is_streamed = number % 5 != 0
                body: dict[str, object] = {"prompt": prompt, "max_tokens": 24, "stream": is_streamed}
                await read_until(live.url, body, cuts[number] if is_streamed or cuts[number] is None else 0)

            await asyncio.gather(*map(one, range(200)))

        asyncio.run(everybody())
        live.settle()
        found = ended(live)
        assert found["error"] == found["stop"] == 0
        assert found["length"] >= sum(cut is None for cut in cuts)
        # Who left before the server had read what was sent was never a request.
        assert 200 - sum(cut == 0 for cut in cuts) <= sum(found.values()) <= 200
        assert live.engine.pump.in_flight == 0
        assert is_free(live)
        counted = live.metrics()
        state = live.engine.pump.serving.state()
        assert (state.finished, state.aborted, state.refused) == (found["length"], found["abort"], 0)
        assert state.arrived == sum(found.values())
        assert counted["vllm:e2e_request_latency_seconds_count"] == found["length"]
        assert counted["vllm:request_generation_tokens_sum"] == 24 * found["length"]
        assert counted["vllm:generation_tokens_total"] >= 24 * found["length"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_an_abort(stream: bool) -> None:
    with serving(MODEL, *SMALL, speed=0.02) as live:
        body: dict[str, object] = {"prompt": [1] * 100, "max_tokens": 400, "stream": stream}
        if stream:
            asyncio.run(read_until(live.url, body, 2))
        else:
            with pytest.raises(httpx.ReadTimeout):
                live.client.post("/v1/completions", json=body, timeout=0.3)
        live.settle()
        assert ended(live) == {"stop": 0, "length": 0, "abort": 1, "error": 0}
        assert is_free(live)


def test_whoever_reads_slowly_holds_up_nobody() -> None:
    """A client that reads nothing of a long answer, while others are answered; then it reads all of it."""
    with serving(MODEL, *SMALL, speed=1000.0) as live:
        host, port = live.url.removeprefix("http://").split(":")
        body: dict[str, object] = {"prompt": "x", "n": 8, "max_tokens": 500, "stream": True, "ignore_eos": True}
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            slow.sendall(request_of(body))
            others = [live.complete(f"prompt {number}", max_tokens=8) for number in range(20)]
            assert all(other["usage"]["completion_tokens"] == 8 for other in others)
            live.settle()
            assert is_free(live)
            assert ended(live)["length"] == 28
            slow.settimeout(30)
            received = b""
            while part := slow.recv(65_536):
                received += part
        assert received.count(b'"finish_reason":"length"') == 8
        assert received.count(b'"text":') == 8 * 500
        assert b"data: [DONE]" in received


def test_a_server_that_is_full_says_so() -> None:
    with serving(MODEL, *SMALL, "--max-num-queued-reqs", "2", speed=0.0001) as live:
        bodies = [{"prompt": [number], "max_tokens": 100, "stream": True} for number in range(2)]
        waiting = [threading.Thread(target=_ask_briefly, args=(live.url, body)) for body in bodies]
        for one in waiting:
            one.start()
        for _ in range(200):
            if live.engine.pump.in_flight == 2:
                break
            time.sleep(0.01)
        response = live.client.post("/v1/completions", json={"prompt": "x"})
        assert response.status_code == 503
        assert "max-num-queued-reqs is 2" in response.json()["error"]["message"]
        for one in waiting:
            one.join()
        live.settle()
        metrics = live.metrics()
        assert metrics["vllm:admission_rejections_total/max_num_queued_reqs"] == 1
        assert metrics["vllm:request_success_total/abort"] == 2


def test_prompt_tokens_that_wait_are_limited() -> None:
    with serving(MODEL, *SMALL, "--max-num-queued-tokens", "100", speed=0.0001) as live:
        asking = threading.Thread(target=_ask_briefly, args=(live.url, {"prompt": [1] * 100}))
        asking.start()
        for _ in range(200):
            if live.engine.pump.in_flight:
                break
            time.sleep(0.01)
        assert live.client.post("/v1/completions", json={"prompt": [2]}).status_code == 503
        asking.join()
        live.settle()
        assert live.metrics()["vllm:admission_rejections_total/max_num_queued_tokens"] == 1
        again = threading.Thread(target=_ask_briefly, args=(live.url, {"prompt": [2]}))
        again.start()
        for _ in range(200):
            if live.engine.pump.in_flight:
                break
            time.sleep(0.01)
        assert live.engine.pump.in_flight == 1
        again.join()


def _ask_briefly(url: str, body: object) -> None:
    """Ask, and leave after a second."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json=body, timeout=httpx.Timeout(10, read=1), trust_env=False)


SECRET = "sk-not-to-be-seen"


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_key_is_asked_for_below_v1(by_variable: bool, capfd: pytest.CaptureFixture[str]) -> None:
    words = (MODEL, *SMALL) if by_variable else (MODEL, *SMALL, "--api-key", "another", SECRET)
    environment = {"VLLM_API_KEY": SECRET} if by_variable else {}
    with serving(*words, environment=environment) as live:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}, {"Authorization": "Basic x"}):
            for path in ("/v1/models", "/v1/completions"):
                response = live.client.request("GET" if "models" in path else "POST", path, headers=headers)
                assert (response.status_code, response.json()) == (401, {"error": "Unauthorized"})
        key = {"Authorization": f"Bearer {SECRET}"}
        assert live.client.get("/v1/models", headers=key).status_code == 200
        texts = [live.client.get(path).text for path in ("/health", "/metrics", "/version", "/server_info")]
        texts += [live.client.get("/server_info?config_format=json").text, live.client.get("/openapi.json").text]
        assert not any(SECRET in text for text in texts)
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err


def test_a_request_that_fits_no_instance() -> None:
    """A prefill instance with too few blocks for it: told, and counted as an error."""
    with serving(MODEL, *SMALL[:-1], "16") as live:
        response = live.client.post("/v1/completions", json={"prompt": [1] * 400, "max_tokens": 2})
        assert response.status_code == 400
        assert "fits no instance" in response.json()["error"]["message"]
        streamed = live.client.post("/v1/completions", json={"prompt": [1] * 400, "max_tokens": 2, "stream": True})
        assert streamed.status_code == 400
        assert ended(live)["error"] == 2
        assert live.engine.pump.in_flight == 0
