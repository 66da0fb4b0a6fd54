"""What load clients report, and what is predicted for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvsim.cli import main
from kvsim.errors import ConfigError
from kvsim.measured.client import read_client_results
from kvsim.measured.open_loop import FRONT_END_S, load_errors, predict_load, server
from kvsim.measured.vllm import SYNCHRONOUS_S, SYNCHRONOUS_S_PER_SEQ

PROFILE = Path("h100_llama-3.1-8b_tp1_bf16")


def spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "median": mean, "p90": 1.2 * mean, "p95": 1.3 * mean, "p99": 1.5 * mean}


def stage(rate: float = 4.0, count: int = 40) -> dict[str, Any]:
    return {
        "load_summary": {"count": count, "requested_rate": rate},
        "successes": {
            "count": count,
            "latency": {"request_latency": spread(0.5), "time_to_first_token": spread(0.03)},
            "throughput": {"requests_per_sec": rate, "output_tokens_per_sec": 62.5 * rate},
            "prompt_len": {"mean": 200.4},
            "output_len": {"mean": 62.5},
        },
        "failures": {"count": 1},
    }


def bench() -> dict[str, Any]:
    return {
        "completed": 50, "total_input_tokens": 51_200, "total_output_tokens": 6_400, "request_rate": "inf",
        "max_concurrency": 8, "request_throughput": 9.0, "output_throughput": 1152.0, "request_goodput:": 7.5,
        "mean_ttft_ms": 80.0, "median_ttft_ms": 70.0, "p99_ttft_ms": 200.0, "mean_tpot_ms": 8.0,
    }  # fmt: skip


def written(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_inference_perf_stages_in_order(tmp_path: Path) -> None:
    for number in (10, 2):
        written(tmp_path / f"stage_{number}.json", stage(rate=number))
    (tmp_path / "load.yaml").write_text("load: {num_workers: 4, worker_max_concurrency: 10}\n", encoding="utf-8")
    found = read_client_results(tmp_path)
    assert [load.requested_rate_per_s for load in found] == [2.0, 10.0]
    first = found[0]
    assert (first.max_in_flight, first.requests, first.failures, first.is_constant) == (40, 40, 1, True)
    assert first.tpot_mean_s == pytest.approx((0.5 - 0.03) / 61.5)
    assert first.ttft_s == {"p50": 0.03, "p90": 0.036, "p95": pytest.approx(0.039), "p99": 0.045, "mean": 0.03}


@pytest.mark.parametrize("goodput", ["request_goodput", "request_goodput:"])
def test_bench_serve_in_both_spellings(tmp_path: Path, goodput: str) -> None:
    values = bench()
    values[goodput] = values.pop("request_goodput:")
    (load,) = read_client_results(written(tmp_path / "result.json", values))
    assert math.isinf(load.requested_rate_per_s)
    assert (load.max_in_flight, load.goodput_requests_per_s) == (8, 7.5)
    assert (load.prompt_tokens_mean, load.output_tokens_mean) == (1024, 128)
    assert load.ttft_s == pytest.approx({"mean": 0.08, "p50": 0.07, "p99": 0.2})
    assert load.tpot_mean_s == pytest.approx(0.008)


def test_a_lone_request_is_the_formula(tmp_path: Path) -> None:
    """At a rate at which nobody meets anybody: one prefill step, then as many decode steps as there are tokens left."""
    (load,) = read_client_results(written(tmp_path / "stage_0.json", stage(rate=0.5, count=4)))
    load = replace(load, output_tokens_mean=3.0, prompt_tokens_mean=100.0)
    plan = server(PROFILE, "llama-3.1-8b", 1, "0.11.0", [])
    found, steps = predict_load(load, plan), plan.step_time
    first_s = steps.prefill_alone_s(100, 0)
    assert found.ttft_s["mean"] == pytest.approx(FRONT_END_S + first_s)
    later_s = steps.decode_alone_s(101) + steps.decode_alone_s(102)
    assert found.e2e_s["mean"] == pytest.approx(FRONT_END_S + first_s + later_s)
    assert found.tpot_mean_s == pytest.approx(later_s / 2)
    ahead = server(PROFILE, "llama-3.1-8b", 1, "0.19.0", []).step_time
    more_s = steps.decode_alone_s(100) - ahead.decode_alone_s(100)
    assert more_s == pytest.approx(SYNCHRONOUS_S + SYNCHRONOUS_S_PER_SEQ)


def test_no_more_are_in_flight_than_the_client_holds(tmp_path: Path) -> None:
    (load,) = read_client_results(written(tmp_path / "result.json", bench()))
    plan = server(PROFILE, "llama-3.1-8b", 1, "0.19.0", [])
    narrow, wide = predict_load(replace(load, max_in_flight=2), plan), predict_load(load, plan)
    assert narrow.requests_per_s < wide.requests_per_s
    assert narrow.ttft_s["mean"] < wide.ttft_s["mean"]
    assert load_errors(load, wide)["requests_per_s"] == pytest.approx((wide.requests_per_s / 9.0 - 1) * 100)


def test_the_command_writes_every_load(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    written(tmp_path / "stage_0.json", stage())
    out = tmp_path / "out.json"
    flags = ["--profile", str(PROFILE), "--model", "meta-llama/Llama-3.1-8B", "--json", str(out)]
    assert main(["validate", "load", str(tmp_path), *flags]) == 0
    (entry,) = json.loads(out.read_text(encoding="utf-8"))["loads"]
    assert set(entry["error_pct"]) >= {"ttft_mean", "tpot_mean", "e2e_p99", "requests_per_s"}
    assert "stage_0.json" in capsys.readouterr().out


def _spoilt(key: str, value: object) -> dict[str, Any]:
    return bench() | {key: value}


BAD = {
    "neither a result of 'vllm bench serve' nor a stage": {"anything": 1},
    "completed = 0: no request was served": _spoilt("completed", 0),
    "completed = 'many': must be a number": _spoilt("completed", "many"),
    "total_input_tokens = None: must be a number": _spoilt("total_input_tokens", None),
    "mean_ttft_ms = -5: must be a number from 0": _spoilt("mean_ttft_ms", -5),
}


@pytest.mark.parametrize(("message", "values"), BAD.items(), ids=range(len(BAD)))
def test_bad_results_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, message: str, values: object
) -> None:
    path = written(tmp_path / "result.json", values)
    with pytest.raises(ConfigError, match=message):
        read_client_results(path)
    assert main(["validate", "load", str(path), "--profile", str(PROFILE), "--model", "llama-3.1-8b"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_empty_folder_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no stage_\*.json"):
        read_client_results(tmp_path)
    (tmp_path / "stage_0.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"stage_0.json: not JSON"):
        read_client_results(tmp_path)
