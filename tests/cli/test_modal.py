"""``kvsim modal``: what a dry run says, and that nothing is begun without credentials."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvsim.measure.cloud.words import outcome_words


def test_a_dry_run_says_plan_commands_and_cost(kvsim: Callable[..., Any], empty: Path) -> None:
    done = kvsim("modal", "sweep", "--gpu", "H100", "--model", "Qwen/Qwen3-8B", "--workload", "in=64,out=8",
                 "--concurrency", "1,2", "--requests", "9", "--max-usd", "9",
                 "--dry-run", "--json", "plan.json")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert "machine: 1 x H100, 8 cores, 64 GiB" in lines
    assert [line for line in lines if line.startswith("server: ")] == [
        f"server: vllm serve Qwen/Qwen3-8B --tensor-parallel-size 1 --{flag}enable-prefix-caching --host 127.0.0.1 "
        "--port 8000 --enable-prompt-tokens-details"
        for flag in ("", "no-")
    ]
    plan = json.loads((empty / "plan.json").read_text())
    assert f"costs at most {plan['bound_usd']:.2f} USD (--max-usd 9)" in done.out
    assert [load["name"] for load in plan["loads"]] == [
        f"{caching}-w1-users{users}" for caching in ("cached", "uncached") for users in (1, 2)
    ]
    assert plan["prices"] == "modal.com/pricing, 2026-05-25"


def test_without_credentials_it_is_one_line_and_nothing_is_left(
    python_main: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("modal", reason="pip install 'kvsim[modal]'")
    nobody = dict.fromkeys(("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_PROFILE"), "")
    done = python_main("modal", "tiny", "--out", tmp_path / "out", MODAL_CONFIG_PATH=str(tmp_path / "none"), **nobody)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("kvsim: error: no credentials for Modal that it takes: ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


BAD = {
    "modal": "modal: MODE is missing; known: probe, tiny,",
    "modal streming": "'streming'; did you mean 'streaming'?",
    "modal tiny --gpu H10 --dry-run": "--gpu H10: Modal has no such GPU; did you mean 'h100'?",
    "modal tiny --gpus 9 --dry-run": "--gpus 9: Modal puts 1 to 8 of L4 in a container",
    "modal sweep --concurrency 1,x --dry-run": "'x'; allowed: a whole number >= 1",
    "modal tiny --max-usd 0.1 --dry-run": "--max-usd 0.1: a run on 1 x L4, 8 cores, 64 GiB is begun with",
    "modal tiny --workload chatt --dry-run": "workload 'chatt' is unknown",
    "modal probe --rate 3 --dry-run": "--rate does not go with the mode probe",
}


@pytest.mark.parametrize("line", BAD)
def test_a_mistake_costs_a_line(kvsim: Callable[..., Any], line: str) -> None:
    done = kvsim(*line.split())
    assert (done.code, done.out) == (2, "")
    assert BAD[line] in done.err
    assert done.err.count("\n") == 1


def test_what_came_back_in_words(tmp_path: Path) -> None:
    load = {"name": "cached-w1-users1", "status": "ok", "answered": 4, "failed": 0, "ttft_mean_ms": 12.34,
            "tpot_mean_ms": None, "e2e_mean_ms": 50.0, "saturated": False}  # fmt: skip
    found = {
        "plan": {"gpu": "H100!"}, "gpus": [{"name": "NVIDIA H100 80GB HBM3", "driver": "570"}], "warnings": [],
        "servers": [{"log": "server-uncached.log", "error": "the server was not ready in time: out of memory"}],
        "loads": [load, {"name": "uncached-w1-users1", "status": "not run"}], "seconds": 100.0, "usd": 0.1344,
    }  # fmt: skip
    assert outcome_words(found, Path("out")).splitlines() == [
        "GPU: NVIDIA H100 80GB HBM3, driver 570",
        "server-uncached.log: the server was not ready in time: out of memory",
        "cached-w1-users1: 4 answered, 0 failed, TTFT 12.3 ms, E2E 50.0 ms",
        "uncached-w1-users1: not run",
        "took 100 s, 0.13 USD; written to out",
        "kvsim validate load out/cached-w1-users1 --gpu h100-sxm compares a load with what kvsim predicts",
    ]
