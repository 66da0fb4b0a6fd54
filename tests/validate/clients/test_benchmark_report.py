"""llm-d's reports, by their schemas: two versions, units, and whose TPOT it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvsim.errors import ConfigError
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import EQUAL


def latency(unit: str, scale: float) -> dict[str, Any]:
    whole, tokens = (
        {"time_to_first_token": 60.0, "request_latency": 1203.0},
        ("time_per_output_token", "inter_token_latency"),
    )
    units = dict.fromkeys(whole, unit) | dict.fromkeys(tokens, f"{unit}/token")
    means = whole | dict.fromkeys(tokens, 9.0)
    return {name: {"units": units[name], "mean": mean * scale, "p99": 2 * mean * scale} for name, mean in means.items()}


def report(tool: str = "vllm-benchmark", **load: Any) -> dict[str, Any]:
    """Of 0.2, in seconds."""
    counts = {"input_length": {"units": "count", "mean": 1024}, "output_length": {"units": "count", "mean": 128}}
    rates = {
        "request_rate": {"units": "queries/s", "mean": 7.6},
        "output_token_rate": {"units": "tokens/s", "mean": 972.8},
    }
    aggregate = {"requests": {"total": 41, "failures": 1} | counts, "latency": latency("s", 1e-3), "throughput": rates}
    engine = {"standardized": {"kind": "inference_engine", "model": {"name": "Qwen/Qwen3-32B"}}}
    return {
        "version": "0.2.1",
        "run": {"uid": "x"},
        "scenario": {"stack": [engine, engine, {"metadata": {}}], "load": {"standardized": {"tool": tool} | load}},
        "results": {"request_performance": {"aggregate": aggregate}},
    }


def old(**args: Any) -> dict[str, Any]:
    """Of 0.1, in milliseconds."""
    counts = {"input_length": {"mean": 1024}, "output_length": {"mean": 128}}
    return {
        "version": "0.1",
        "scenario": {"model": {"name": "Qwen/Qwen3-32B"}, "load": {"name": "vllm-benchmark", "args": args}},
        "metrics": {
            "requests": {"total": 40} | counts,
            "latency": latency("ms", 1.0),
            "throughput": {"requests_per_sec": 7.6, "output_tokens_per_sec": 972.8},
        },
    }


def read(path: Path, values: dict[str, Any]) -> ClientResult:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    (load,) = read_results(path)
    return load


def test_both_versions_say_the_same(tmp_path: Path) -> None:
    new, before = read(tmp_path / "r.yaml", report(rate_qps=8.0)), read(tmp_path / "r.yaml", old(request_rate=8.0))
    for load in (new, before):
        assert (load.completed, load.traffic.rate_per_s, load.model) == (40, 8.0, "Qwen/Qwen3-32B")
        assert (load.ttft_s["mean"], load.tpot_mean_s, load.e2e_s["p99"]) == pytest.approx((0.06, 0.009, 2.406))
        assert load.itl_s["mean"] == pytest.approx(0.009)
        assert (load.requests_per_s, load.output_tokens_per_s) == (7.6, 972.8)
    assert (new.failures, before.failures) == (1, 0)


def test_tpot_is_taken_of_tools_that_mean_it(tmp_path: Path) -> None:
    found = {
        tool: read(tmp_path / "r.yaml", report(tool, rate_qps=8.0)) for tool in ("kvsim", "guidellm", "inference-perf")
    }
    assert found["kvsim"].tpot_mean_s == pytest.approx(0.009)
    assert found["guidellm"].tpot_mean_s is found["inference-perf"].tpot_mean_s is None
    assert found["guidellm"].traffic.burstiness == EQUAL
    assert any("not compared" in words for words in found["guidellm"].definitions)


def test_the_load_stands_in_three_places(tmp_path: Path) -> None:
    users = read(tmp_path / "r.yaml", report(concurrency=16))
    assert (users.traffic.max_in_flight, users.traffic.rate_per_s) == (16, math.inf)
    burst = read(tmp_path / "r.yaml", old(request_rate="inf", max_concurrency=16))
    assert (burst.traffic.max_in_flight, burst.traffic.rate_per_s) == (16, math.inf)
    staged = report("inference-perf", stage=1, concurrency=math.inf)
    staged["scenario"]["load"]["native"] = {"config": {"load": {"stages": [{"rate": 2.0}, {"rate": 5.0}]}}}
    assert read(tmp_path / "r.yaml", staged).traffic.rate_per_s == 5.0
    with pytest.raises(ConfigError, match="the load is unknown"):
        read(tmp_path / "r.yaml", report())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "0.3"}, "version = '0.3': versions that are read: 0.1, 0.2"),
        ({"results": {"request_performance": {}}}, "requests.total = None"),
    ],
)
def test_bad_reports(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "r.yaml", report(rate_qps=1.0) | change)


def test_units_are_the_files(tmp_path: Path) -> None:
    values = report(rate_qps=8.0)
    values["results"]["request_performance"]["aggregate"]["latency"]["request_latency"]["units"] = "fortnights"
    with pytest.raises(ConfigError, match="units = 'fortnights': must be one of s, ms, us"):
        read(tmp_path / "r.yaml", values)
