"""What clients wrote of runs against ``kvsim serve``, and what that counted meanwhile (``make test-clients``)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.validate.clients.read import read_results

SERVED = Path(__file__).parent / "files" / "served"
RESULTS = sorted(
    path for path in SERVED.rglob("*") if path.is_file() and path.name not in ("counted.json", "config.yaml")
)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_is_read_is_what_the_server_counted(path: Path) -> None:
    counted = json.loads((path.parent / "counted.json").read_text(encoding="utf-8"))
    (load,) = read_results(path)
    assert (load.completed, load.failures) == (counted["requests"], 0)
    assert load.traffic.prompt_tokens * load.completed == pytest.approx(counted["prompt_tokens"], rel=1e-9)
    assert load.traffic.output_tokens * load.completed == pytest.approx(counted["output_tokens"], rel=1e-9)
    assert load.output_tokens_per_s is not None
    assert load.output_tokens_per_s / load.requests_per_s == pytest.approx(load.traffic.output_tokens, rel=2e-3)
    assert load.model in (None, "meta-llama/Llama-3.2-1B-Instruct")
    answers_s = counted["last_s"] - counted["first_s"]
    assert answers_s <= load.completed / load.requests_per_s + 0.05


@pytest.mark.parametrize("folder", sorted(path for path in SERVED.iterdir()), ids=lambda path: path.name)
def test_a_folder_is_one_run(folder: Path) -> None:
    (load,) = read_results(folder)
    assert load.completed == json.loads((folder / "counted.json").read_text(encoding="utf-8"))["requests"]


def test_every_client_is_there() -> None:
    assert {path.parent.name.rpartition("-")[0] for path in RESULTS} == {
        "aiperf", "guidellm", "inference-perf", "sglang", "vllm",
    }  # fmt: skip
