"""What each load client's file says, in one form; and files that say nothing, each in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from client_files import LOAD_YAML, aiperf, bench, guidellm, stage, written

from kvsim.errors import ConfigError
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.traffic import EQUAL, POISSON, SharedPrompts


def test_inference_perf_stages_in_order_with_the_load_beside_them(tmp_path: Path) -> None:
    for number in (10, 0):
        written(tmp_path / f"stage_{number}_lifecycle_metrics.json", stage(rate=number + 1))
    written(tmp_path / "load.yaml", LOAD_YAML)
    first, later = read_results(tmp_path)
    assert [first.traffic.rate_per_s, later.traffic.rate_per_s] == [1.0, 11.0]
    traffic = first.traffic
    assert (traffic.requests, first.completed, first.failures) == (41, 40, 1)
    assert (traffic.burstiness, traffic.scaled, traffic.timeout_s, traffic.max_in_flight) == (POISSON, True, 300.0, 40)
    assert traffic.shared == SharedPrompts(3, 2, 96)
    assert later.traffic.shared == SharedPrompts(3, 2, 96, sent_before=True)
    assert first.ttft_s == {"p50": 0.03, "p90": 0.036, "p95": pytest.approx(0.039), "p99": 0.045, "mean": 0.03}
    assert first.model == "meta-llama/Llama-3.1-8B-Instruct"


def test_the_load_beside_a_single_file_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path / "stage_0.json", stage())
    (alone,) = read_results(path)
    assert (alone.traffic.shared, alone.traffic.max_in_flight, len(alone.assumed)) == (None, None, 2)
    written(tmp_path / "load.yaml", LOAD_YAML)
    (beside,) = read_results(path)
    assert (beside.traffic.max_in_flight, beside.assumed) == (40, ())


def test_answers_are_as_long_as_asked_where_the_end_is_ignored(tmp_path: Path) -> None:
    """The tokens of the text encoded again, 62.5, are not those that were generated, 64."""
    path = written(tmp_path / "stage_0.json", stage())
    (load,) = read_results(path)
    assert (load.tpot_mean_s, load.itl_s["mean"]) == (None, pytest.approx((0.5 - 0.03) / 61.5))
    written(tmp_path / "load.yaml", LOAD_YAML)
    (load,) = read_results(path)
    assert load.tpot_mean_s == pytest.approx((0.5 - 0.03) / 63)
    assert (load.traffic.output_tokens, load.output_tokens_per_s) == (64.0, 256.0)


def test_failures_are_counted(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "stage_0.json", stage(count=730, failed=4070)))
    assert (load.traffic.requests, load.completed, load.failures) == (4800, 730, 4070)
    assert load.failed_share == pytest.approx(0.848, abs=1e-3)
    assert not load.comparable
    (load,) = read_results(written(tmp_path / "result.json", bench(num_prompts=52)))
    assert (load.traffic.requests, load.failures, load.comparable) == (52, 2, True)


@pytest.mark.parametrize("goodput", ["request_goodput", "request_goodput:"])
def test_bench_serve_in_both_spellings(tmp_path: Path, goodput: str) -> None:
    values = bench(model_id="Qwen/Qwen3-32B")
    values[goodput] = values.pop("request_goodput:")
    (load,) = read_results(written(tmp_path / "result.json", values))
    assert math.isinf(load.traffic.rate_per_s)
    assert (load.traffic.max_in_flight, load.goodput_requests_per_s, load.model) == (8, 7.5, "Qwen/Qwen3-32B")
    assert (load.traffic.prompt_tokens, load.traffic.output_tokens) == (1024, 128)
    assert load.ttft_s == pytest.approx({"mean": 0.08, "p50": 0.07, "p99": 0.2})
    assert (load.tpot_mean_s, load.itl_s) == (pytest.approx(0.008), {})


def test_bench_serve_of_one_token_has_no_tpot(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "r.json", bench(total_output_tokens=50, mean_tpot_ms=0.0)))
    assert load.tpot_mean_s is None


def test_aiperf_takes_units_from_the_file(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "profile_export_aiperf.json", aiperf()))
    assert (load.ttft_s["mean"], load.tpot_mean_s, load.e2e_s["mean"]) == pytest.approx((0.06, 0.009, 0.4))
    assert load.e2e_s["p90"] == pytest.approx(0.48)
    traffic = load.traffic
    assert (traffic.requests, load.failures, traffic.rate_per_s, traffic.burstiness) == (41, 1, 8.0, POISSON)
    assert (traffic.prompt_tokens, traffic.output_tokens) == (256, 32)


def test_aiperf_as_a_closed_loop(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "export.json", aiperf(concurrency=4, request_rate=None)))
    assert (load.traffic.rate_per_s, load.traffic.max_in_flight) == (math.inf, 4)


def test_guidellm_has_a_load_a_benchmark(tmp_path: Path) -> None:
    """Latency in seconds; ITL is without the wait for the first token, which would make it 12.5."""
    strategies = ({"type_": "constant", "rate": 4.0}, {"type_": "poisson", "rate": 8.0})
    users = ({"type_": "concurrent", "streams": 5}, {"type_": "synchronous"}, {"type_": "throughput"})
    loads = read_results(written(tmp_path / "report.json", guidellm(*strategies, *users)))
    assert [load.traffic.rate_per_s for load in loads] == [4.0, 8.0, math.inf, math.inf, math.inf]
    assert [load.traffic.burstiness for load in loads[:2]] == [EQUAL, POISSON]
    assert [load.traffic.max_in_flight for load in loads] == [None, None, 5, 1, None]
    first = loads[0]
    assert (first.ttft_s["mean"], first.itl_s["mean"], first.e2e_s["p99"]) == pytest.approx((0.06, 0.009, 0.6))
    assert (first.traffic.requests, first.failures) == (41, 1)


def changed(values: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    *path, last = key.split(".")
    place = values
    for part in path:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    return values


CONSTANT = {"type_": "constant", "rate": 4.0}
BAD: dict[str, object] = {
    "r.json: is empty": "",
    "r.json: line 1: not JSON": "{",
    r"not the result of a client .* AIPerf's .* GuideLLM's": {"anything": 1},
    "not the result of a client": [],
    "0 requests sent and none answered": bench(completed=0),
    "completed = 'many': must be a whole number from 0 to 10,000,000": bench(completed="many"),
    "completed = 1.5: must be a whole": bench(completed=1.5),
    "completed = inf: must be a whole": bench(completed=10**400),
    "total_input_tokens = None: must be a number": bench(total_input_tokens=None),
    "mean_ttft_ms = -5: must be a number from 0": bench(mean_ttft_ms=-5),
    "mean_ttft_ms = nan: must be a number": bench(mean_ttft_ms=math.nan),
    "request_rate = 0: must be a number from 1e-06": bench(request_rate=0),
    "ramp_up_strategy = 'linear'": bench(ramp_up_strategy="linear"),
    "81 requests sent and none answered": changed(stage(failed=41), "successes.count", 0),
    "requested_rate = inf": changed(stage(), "load_summary.requested_rate", math.inf),
    "40 answered and 1 failed of 10 requests": changed(stage(), "load_summary.count", 10),
    "time_to_first_token.unit = 'parsec': must be one of": changed(aiperf(), "time_to_first_token.unit", "parsec"),
    r"inter_token_latency.unit = \[1\]: must be one of": changed(aiperf(), "inter_token_latency.unit", [1]),
    r"arrival_pattern = \[1\]": aiperf(request_rate=3.0, arrival_pattern=[1]),
    "request_rate = None: the load is unknown": aiperf(request_rate=None),
    "arrival_pattern = 'fractal'": aiperf(request_rate=3.0, arrival_pattern="fractal"),
    "1 requests sent and none answered": changed(aiperf(), "request_count.avg", 0),
    "benchmarks: holds none": guidellm(),
    "benchmarks.0.config.strategy.type_ = 'sweep'": guidellm({"type_": "sweep"}),
    "benchmarks.0.metrics.request_totals.successful = None": changed(
        guidellm(CONSTANT), "benchmarks.0.metrics", {}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("message", "values"), BAD.items(), ids=range(len(BAD)))
def test_bad_results_are_refused(tmp_path: Path, message: str, values: object) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        read_results(written(tmp_path / "r.json", values))
    assert "\n" not in str(raised.value)


BAD_LOADS = {
    "load.yaml: not readable as YAML": "a: [",
    "load.yaml: no section 'load'": "anything: 1",
    "load.num_workers = 'many'": "load: {num_workers: many}",
    "load.type = 'trace_replay': loads that are read: constant, poisson": "load: {type: trace_replay}",
    "num_groups = 0: must be 1 or more": "{load: {type: constant}, data: {shared_prefix: {num_groups: 0}}}",
}


@pytest.mark.parametrize(("message", "text"), BAD_LOADS.items(), ids=range(len(BAD_LOADS)))
def test_a_bad_load_beside_a_stage_is_refused(tmp_path: Path, message: str, text: str) -> None:
    written(tmp_path / "load.yaml", text)
    with pytest.raises(ConfigError, match=message):
        read_results(written(tmp_path / "stage_0.json", stage()))


def test_an_empty_folder_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no result of a client that is read"):
        read_results(tmp_path)
    with pytest.raises(ConfigError, match=r"nothing\.json: not readable"):
        read_results(tmp_path / "nothing.json")


def detailed(**changed: Any) -> dict[str, Any]:
    """As ``benchmark_serving.py`` wrote it: no E2E, no times of sending; the second failed."""
    lists = {"input_lens": [100, 100, 40], "output_lens": [3, 0, 1], "ttfts": [0.5, 0.0, 0.25]}
    more = {"itls": [[0.125, 0.25], [], []], "errors": ["", "timed out", ""], "generated_texts": ["a", "", "b"]}
    return bench(completed=2, num_prompts=3, duration=4.0) | lists | more | changed


def test_bench_serve_in_detail_before_it_had_latencies(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "r.json", detailed()))
    assert (load.traffic.requests, load.completed, load.failures) == (3, 2, 1)
    assert (load.e2e_s["mean"], load.tpot_mean_s) == (pytest.approx((0.875 + 0.25) / 2), pytest.approx(0.1875))
    assert load.traffic.rows is not None
    assert load.traffic.rows.sent_s is None
    assert load.traffic.rows.output_tokens.tolist() == [3, 2, 1]
    assert (load.requests_per_s, load.output_tokens_per_s) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ttfts": [0.5]}, "ttfts: must be a list as long as input_lens"),
        ({"errors": "none"}, "errors: must be a list as long as input_lens"),
        ({"ttfts": ["0.5", 0.0, 0.25]}, "request 1: ttft_s = '0.5': must be a number"),
        ({"itls": [[0.1, "x"], [], []], "latencies": [-1.0, 0, 1]}, "request 1: e2e_s = -1.0: must be a number"),
    ],
)
def test_bad_details_are_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_results(written(tmp_path / "r.json", detailed(**changed)))
