"""What a server says of itself, over HTTP; and one line for each way in which it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.live.ask import Ask
from kvsim.live.deployment import Described, deployment_of, described
from kvsim.live.server import told_by
from kvsim.measure.settings import server_of

CACHE_INFO = (
    'vllm:cache_config_info{block_size="32",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
    'gpu_memory_utilization="0.92",num_cpu_blocks="None",num_gpu_blocks="96",sliding_window="None"} 1.0\n'
)
MODELS = {"data": [{"id": "tiny", "root": "meta-llama/Llama-3.2-1B", "max_model_len": 2048, "owned_by": "vllm"}]}
INFO = {
    "vllm_config": {
        "model_config": {"enforce_eager": True, "max_model_len": 2048, "model": "/x"},
        "cache_config": {"block_size": 32, "num_gpu_blocks": 96, "cache_dtype": "auto", "enable_prefix_caching": True},
        "scheduler_config": {
            "max_num_batched_tokens": 512,
            "max_num_seqs": 24,
            "max_num_scheduled_tokens": None,
            "enable_chunked_prefill": True,
            "policy": "fcfs",
            "watermark": 0.0,
            "async_scheduling": False,
        },
        "parallel_config": {"tensor_parallel_size": 1, "data_parallel_size": 1, "pipeline_parallel_size": 1},
    },
    "vllm_env": {"VLLM_SECRET": "s"},
    "system_env": {"nvidia_gpu_models": "GPU 0: NVIDIA H100 80GB HBM3\nGPU 1: NVIDIA H100 80GB HBM3"},
}


@contextmanager
def answering(pages: Mapping[str, Any], key: str | None = None) -> Iterator[str]:
    """A server that knows these pages: documents, or text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            status = 200 if page is not None else 404
            if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
                status, page = 401, {"error": "no"}
            body = (page if isinstance(page, str) else json.dumps(page)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KVSIM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def ask(url: str) -> Ask:
    return Ask(server_of(url))


def test_a_server_in_development_mode_says_all_of_it() -> None:
    pages = {"/v1/models": MODELS, "/version": {"version": "0.32.0"}, "/metrics": CACHE_INFO}
    with answering(pages | {"/server_info?config_format=json": INFO}) as url:
        told = told_by(ask(url))
    assert (told.model, told.root, told.version) == ("tiny", "meta-llama/Llama-3.2-1B", "0.32.0")
    assert told.sources == ("/v1/models", "/metrics", "/server_info")
    assert told.arguments == {
        "max_model_len": 2048,
        "block_size": 32,
        "kv_cache_dtype": "auto",
        "enable_prefix_caching": True,
        "gpu_memory_utilization": 0.92,
        "num_gpu_blocks_override": 96,
        "enforce_eager": True,
        "max_num_batched_tokens": 512,
        "max_num_seqs": 24,
        "enable_chunked_prefill": True,
        "scheduling_policy": "fcfs",
        "watermark": 0.0,
        "async_scheduling": False,
        "tensor_parallel_size": 1,
        "data_parallel_size": 1,
        "pipeline_parallel_size": 1,
    }
    plan = deployment_of(described(told, None, None, gpu=None, profile=None, sets=())).plan
    settings = plan.colocated_settings
    assert (settings.num_blocks, settings.block_size, settings.max_num_seqs) == (95, 32, 24)
    assert not settings.async_scheduling


def test_the_gpu_is_the_one_that_the_server_names() -> None:
    pages = {"/v1/models": MODELS, "/server_info?config_format=json": INFO}
    with answering(pages) as url:
        told = told_by(ask(url))
    assert told.gpu == "h100-sxm"
    found = described(told, None, None, gpu=None, profile=None, sets=())
    assert found.knows_machine
    assert deployment_of(found).loaded.config.hardware.gpu == "h100-sxm"
    assert described(told, None, None, gpu="a100-80gb", profile=None, sets=()).gpu == "a100-80gb"


@pytest.mark.parametrize("system", [{}, {"nvidia_gpu_models": None}, {"nvidia_gpu_models": "GPU 0: Unheard Of"}, []])
def test_a_gpu_that_is_not_known_is_none(system: Any) -> None:
    pages = {"/v1/models": MODELS, "/server_info?config_format=json": INFO | {"system_env": system}}
    with answering(pages) as url:
        assert told_by(ask(url)).gpu is None


def test_what_only_the_line_says_is_warned_of() -> None:
    config = INFO["vllm_config"] | {"speculative_config": {"method": "eagle3"}, "lora_config": None}  # type: ignore[operator]
    with answering({"/v1/models": MODELS, "/server_info?config_format=json": {"vllm_config": config}}) as url:
        told = told_by(ask(url))
    assert [warning.partition(",")[0] for warning in told.warnings] == ["the server has a speculative_config"]


def test_without_it_models_and_metrics_are_what_there_is() -> None:
    with answering({"/v1/models": MODELS, "/metrics": CACHE_INFO}) as url:
        told = told_by(ask(url))
    assert told.sources == ("/v1/models", "/metrics")
    assert told.version == ""
    assert told.arguments["num_gpu_blocks_override"] == 96


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({}, "/v1/models answers 404"),
        ({"/v1/models": "<html>"}, "/v1/models answers what is no JSON: no OpenAI-compatible server?"),
        ({"/v1/models": {"data": []}}, "/v1/models names no model"),
        ({"/v1/models": [1]}, "/v1/models names no model"),
        ({"/v1/models": {"data": [{"id": 3}]}}, "/v1/models names no model"),
    ],
)
def test_what_is_no_server_is_one_line(pages: Mapping[str, Any], words: str) -> None:
    with answering(pages) as url, pytest.raises(ConfigError) as refused:
        told_by(ask(url))
    assert str(refused.value) == f"{url}{words}"


def test_nobody_there_is_one_line() -> None:
    with answering({}) as url:
        pass
    with pytest.raises(ConfigError, match=f"no server answers at {url}: Connection refused"):
        told_by(ask(url))


def test_a_wrong_key_is_one_line_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"/v1/models": MODELS}, key="right") as url:
        with pytest.raises(ConfigError, match="answers 401: set KVSIM_API_KEY"):
            told_by(ask(url))
        monkeypatch.setenv("KVSIM_API_KEY", "sk-wrong")
        with pytest.raises(ConfigError, match="answers 401: the key is a wrong one") as refused:
            told_by(ask(url))
        assert "sk-wrong" not in str(refused.value)
        monkeypatch.setenv("KVSIM_API_KEY", "right")
        assert told_by(ask(url)).model == "tiny"


def test_a_model_that_kvsim_does_not_know_wants_its_config() -> None:
    unknown = {"data": [{"id": "mine", "root": "/models/mine"}]}
    with answering({"/v1/models": unknown}) as url:
        told = told_by(ask(url))
    with pytest.raises(
        ConfigError, match=r"the server's model '/models/mine' is none that kvsim knows: .*--model-config"
    ):
        described(told, None, None, gpu=None, profile=None, sets=())
    assert described(told, None, "llama-3.2-1b", gpu=None, profile=None, sets=()).model == "llama-3.2-1b"


def test_nothing_said_is_no_model() -> None:
    with pytest.raises(ConfigError, match="which model is served is nowhere said"):
        described(None, None, None, gpu=None, profile=None, sets=())


def test_what_knows_a_machine() -> None:
    plain = Described("llama-3.2-1b", "", {}, ())
    assert not plain.knows_machine
    assert Described("llama-3.2-1b", "", {}, (), gpu="h100").knows_machine
    assert Described("llama-3.2-1b", "", {}, (), sets=("hardware.gpu=h100-sxm",)).knows_machine
