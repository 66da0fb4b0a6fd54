"""A real server on a free port of this machine, in a thread, and clients of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from kvsim.launch.front_end import read_front_end
from kvsim.serve.deployed import deploy
from kvsim.serve.engine import SimulatedEngine
from kvsim.serve.serving import Pacing, application, listening

MODEL = "meta-llama/Llama-3.2-1B-Instruct"
SMALL = ("--block-size", "16", "--max-model-len", "512", "--max-num-seqs", "8", "--num-gpu-blocks-override", "129")
"""A server with 128 blocks, 2,048 tokens."""


@dataclass(frozen=True)
class Live:
    """A server that serves."""

    url: str
    engine: SimulatedEngine
    client: httpx.Client

    def complete(self, prompt: Any, **more: Any) -> dict[str, Any]:
        """The answer to a completion, which must be one."""
        response = self.client.post("/v1/completions", json={"prompt": prompt, **more})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def chunks(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks of a stream, which must end as one does."""
        with self.client.stream("POST", path, json={**body, "stream": True}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            events = "".join(response.iter_text()).split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""]
        assert all(event.startswith("data: ") for event in events[:-1])
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    def metrics(self) -> dict[str, float]:
        """Samples by name, summed over engines; with the reason where there is one."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                reason = sample.labels.get("finished_reason") or sample.labels.get("reason")
                name = sample.name if reason is None else f"{sample.name}/{reason}"
                found[name] = found.get(name, 0.0) + sample.value
        return found

    def settle(self) -> None:
        """Wait until nothing is served any more."""
        for _ in range(400):
            if self.client.get("/load").json()["server_load"] == 0:
                return
            time.sleep(0.02)
        raise AssertionError(f"still {self.client.get('/load').text}")


@contextmanager
def serving(
    *words: str,
    environment: Mapping[str, str] | None = None,
    gpu: str = "h100-sxm",
    instances: int | None = None,
    separated: bool = False,
    sets: tuple[str, ...] = (),
    speed: float = 50.0,
    responses: Path | None = None,
    tokenizer: Path | None = None,
    most_body_bytes: int = 1_000_000,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """A server of the command line ``words``, for as long as it is used."""
    launch, front_end = read_front_end(words, environment or {})
    deployed = deploy(launch, separated=separated, gpu=gpu, instances=instances, sets=sets)
    config, engine = application(deployed, front_end, Pacing(speed, responses, tokenizer, most_body_bytes))
    at = listening("127.0.0.1", 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{at.getsockname()[1]}"
    with httpx.Client(base_url=url, headers=headers, timeout=60.0, trust_env=False) as client:
        for _ in range(500):
            if server.started:
                break
            time.sleep(0.01)
        try:
            yield Live(url, engine, client)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
