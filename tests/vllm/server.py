"""vLLM's own server on a CPU, with a model of two small layers and weights that are drawn: it schedules, caches and
preempts as any of its servers does, and what it says means nothing."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

READY_S = 400.0
MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "vocab_size": 8192,
    "max_position_embeddings": 16384,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VOCABULARY = (100, 8000)
"""Token ids that prompts are made of."""
ALWAYS = [
    *("--load-format", "dummy", "--skip-tokenizer-init", "--enforce-eager", "--enable-prompt-tokens-details"),
    *("--host", "127.0.0.1", "--served-model-name", "tiny"),
]
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_SERVER_DEV_MODE": "1",
}
"""The last one opens `/server_info`, `/pause` and `/reset_prefix_cache`."""


@contextmanager
def serving(
    python: Path, arguments: str, model: dict[str, object] | None = None, cores: tuple[int, int] | None = None
) -> Iterator[str]:
    """The URL of a server that runs until the block ends; `python` has vllm-cpu. `model`: another configuration than
    MODEL. `cores`: the one that computes, and the one that everything else of the server runs on.

    The package is called vllm-cpu, so that `vllm serve`, which asks for the version of one that is called vllm, does
    not start; the module behind it does.
    """
    with tempfile.TemporaryDirectory(prefix="vllm-server-") as folder, socket.socket() as free:
        (Path(folder) / "config.json").write_text(json.dumps(model or MODEL))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", folder, *ALWAYS]
        with (Path(folder) / "log.txt").open("w+") as log:
            server = subprocess.Popen(
                [*words, "--port", str(port), *arguments.split()],
                env=os.environ | ENVIRONMENT | ({} if cores is None else {"VLLM_CPU_OMP_THREADS_BIND": str(cores[0])}),
                preexec_fn=None if cores is None else partial(os.sched_setaffinity, 0, {cores[1]}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            url = f"http://127.0.0.1:{port}"
            try:
                _wait(url, server, Path(folder) / "log.txt")
                yield url
            finally:
                _end(server)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-30:])
    raise SystemExit(f"vLLM's server does not start:\n{tail}")


def _end(server: subprocess.Popen[bytes]) -> None:
    """The server and the engine that it started."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, kind)
        except ProcessLookupError:
            return
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            continue


def post(url: str, path: str) -> None:
    """One of the server's switches."""
    with urllib.request.urlopen(urllib.request.Request(url + path, method="POST"), timeout=60):
        pass
