"""Files that the clients themselves wrote: what is read of them, and that damaged ones cost a line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, SharedPrompts, Traffic

FILES = Path(__file__).parent / "files"


def read(name: str) -> tuple[ClientResult, ...]:
    return read_results(FILES / name)


def test_vllm_appends_runs_and_details() -> None:
    """The first has no E2E, so that nobody knows what a chunk carries; of the second every request is known."""
    users, rate = read("vllm-0.32-append.json")
    assert [load.name for load in (users, rate)] == ["vllm-0.32-append.json 1", "vllm-0.32-append.json 2"]
    assert (users.traffic.max_in_flight, users.itl_s, users.traffic.rows) == (4, {}, None)
    assert users.goodput_requests_per_s is not None
    rows = rate.traffic.rows
    assert rows is not None
    assert rows.sent_s is not None
    assert (rate.traffic.burstiness, rate.traffic.is_recorded, rows.sent_s[0]) == (0.5, True, 0.0)
    assert (rows.prompt_tokens.tolist(), rows.output_tokens.tolist()) == ([40] * 12, [12] * 12)
    assert rate.tpot_mean_s == pytest.approx(rate.itl_s["mean"]) == pytest.approx(0.0028282, abs=1e-6)


def test_sglang_has_lengths_and_no_times() -> None:
    rate, users = read("sglang-0.5.6.jsonl")
    assert (rate.traffic.rate_per_s, rate.traffic.scaled, rate.model) == (20.0, False, "tiny")
    assert any("counts no others" in words for words in rate.assumed)
    assert (users.traffic.max_in_flight, users.traffic.is_recorded) == (3, False)
    assert users.traffic.rows is not None
    assert users.e2e_s["mean"] == pytest.approx(users.ttft_s["mean"] + 11 * users.itl_s["mean"])


def test_aiperf_one_by_one_is_the_summary_of_the_same_run() -> None:
    """Its warm-up aside; the CSV has two digits, and its load stands in the JSON beside it."""
    folder = FILES / "aiperf-0.13"
    (rows,) = read_results(folder / "profile_export.jsonl")
    (summary,) = read_results(folder / "profile_export_aiperf.json")
    (table,) = read_results(folder / "profile_export_aiperf.csv")
    assert rows.completed == summary.completed == table.completed == 5
    assert (rows.traffic.is_recorded, summary.traffic.is_recorded) == (True, False)
    for load, digits in ((summary, 1e-9), (table, 1e-5)):
        assert load.tpot_mean_s == pytest.approx(rows.tpot_mean_s, abs=digits)
        assert load.ttft_s["p90"] == pytest.approx(rows.ttft_s["p90"], abs=digits)
        assert load.e2e_s["mean"] == pytest.approx(rows.e2e_s["mean"], abs=digits)
        assert (load.traffic.rate_per_s, load.traffic.burstiness) == (20.0, POISSON)
        assert load.traffic.prompt_tokens == pytest.approx(rows.traffic.prompt_tokens, abs=0.01)
    assert (rows.model, summary.model) == ("tiny", "tiny")


def test_a_folder_counts_a_run_once(tmp_path: Path) -> None:
    for path in (FILES / "aiperf-0.13").iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "notes.json").write_text('{"by": "hand"}', encoding="utf-8")
    metrics = {"aiperf_version": "0.13.0", "summary": {"endpoints_configured": ["host/metrics"]}, "metrics": {}}
    (tmp_path / "server_metrics_export.json").write_text(json.dumps(metrics), encoding="utf-8")
    (load,) = read_results(tmp_path)
    assert (load.name, load.traffic.is_recorded) == ("profile_export.jsonl", True)


def test_without_the_summary_the_load_is_asked_for(tmp_path: Path) -> None:
    csv = Path(shutil.copy(FILES / "aiperf-0.13" / "profile_export_aiperf.csv", tmp_path))
    with pytest.raises(ConfigError, match="a rate or a concurrency is wanted, --rate or --concurrency"):
        read_results(csv)
    asked = Traffic(requests=0, rate_per_s=math.inf, prompt_tokens=0, output_tokens=0, max_in_flight=3)
    (load,) = read_results(csv, asked)
    assert (load.traffic.max_in_flight, load.traffic.requests) == (3, 5)
    with pytest.raises(ConfigError, match="says itself how it was sent"):
        read_results(FILES / "guidellm-0.8.json", asked)
    (alone,) = read_results(Path(shutil.copy(FILES / "aiperf-0.13" / "profile_export.jsonl", tmp_path)))
    assert alone.traffic.is_recorded
    assert "no profile_export_aiperf.json" in alone.assumed[-1]


def test_a_client_that_counts_no_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="prompts of 0 tokens: the client did not count them"):
        read("aiperf-0.1/profile_export_aiperf.json")


def test_guidellm_has_a_load_a_rate_and_its_requests() -> None:
    loads = read("guidellm-0.8.json")
    assert [load.traffic.rate_per_s for load in loads] == [10.0, 20.0]
    assert all(load.traffic.is_recorded and load.traffic.burstiness == EQUAL for load in loads)
    assert all(load.completed == 3 and load.model == "tiny" for load in loads)
    values = json.loads((FILES / "guidellm-0.8.json").read_text(encoding="utf-8"))
    for load, benchmark in zip(loads, values["benchmarks"], strict=True):
        metrics = benchmark["metrics"]
        assert load.e2e_s["mean"] == pytest.approx(metrics["request_latency"]["successful"]["mean"])
        assert load.ttft_s["mean"] == pytest.approx(metrics["time_to_first_token_ms"]["successful"]["mean"] / 1e3)


def test_guidellm_as_a_table_and_a_sample(tmp_path: Path) -> None:
    """Where not all requests are in a report its summary is taken, whose ITL is weighed by tokens."""
    (users,) = read("guidellm-0.5.csv")
    assert (users.traffic.max_in_flight, users.traffic.rate_per_s, users.completed) == (2, math.inf, 4)
    assert (users.tpot_mean_s, sorted(users.itl_s)) == (None, ["mean"])
    values = json.loads((FILES / "guidellm-0.8.json").read_text(encoding="utf-8"))
    values["benchmarks"][0]["requests"]["successful"].pop()
    path = tmp_path / "report.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    sampled, whole = read_results(path)
    assert (sampled.traffic.rows, whole.traffic.is_recorded) == (None, True)
    assert sampled.tpot_mean_s == sampled.itl_s["mean"]


def test_inference_perf_in_stages_one_by_one_and_not_streamed() -> None:
    first, second = read("inference-perf-0.7")
    assert [load.traffic.rate_per_s for load in (first, second)] == [3.0, 6.0]
    assert first.traffic.shared == SharedPrompts(2, 2, 20)
    (whole,) = read("inference-perf-0.7/per_request_lifecycle_metrics.json")
    assert (whole.completed, whole.traffic.is_recorded) == (first.completed + second.completed, True)
    means = [(load.completed, load.ttft_s["mean"]) for load in (first, second)]
    assert whole.ttft_s["mean"] == pytest.approx(sum(n * mean for n, mean in means) / whole.completed)
    (plain,) = read("inference-perf-0.7-not-streamed.json")
    assert (plain.ttft_s, plain.tpot_mean_s, plain.itl_s) == ({}, None, {})
    assert plain.e2e_s["mean"] > 0
    assert plain.definitions == ("no TTFT (answers were not streamed, or it was left out): TPOT and ITL not compared",)


def test_a_report_without_a_load_takes_the_one_asked_for() -> None:
    """inference-perf writes its part of llm-d's report, without the scenario."""
    path = FILES / "inference-perf-0.7" / "inference-perf.partial.stage_0.yaml"
    with pytest.raises(ConfigError, match=r"rate_qps = None: the load is unknown"):
        read_results(path)
    asked = Traffic(requests=0, rate_per_s=3.0, prompt_tokens=0, output_tokens=0)
    (load,) = read_results(path, asked)
    (stage, _) = read("inference-perf-0.7")
    assert load.ttft_s == pytest.approx(stage.ttft_s)
    assert (load.traffic.rate_per_s, load.tpot_mean_s, load.completed) == (3.0, None, stage.completed)


def test_genai_perf_in_three_forms() -> None:
    folder = FILES / "genai-perf-0.0.16"
    (summary,) = read_results(folder / "profile_export_genai_perf.json")
    (table,) = read_results(folder / "profile_export_genai_perf.csv")
    (rows,) = read_results(folder / "profile_export.json")
    for load in (summary, table, rows):
        assert (load.client, load.completed, load.traffic.rate_per_s) == ("GenAI-Perf", 6, 10.0)
        assert (load.ttft_s["mean"], load.tpot_mean_s) == pytest.approx((0.025, 0.002515), abs=6e-6)
    assert rows.traffic.is_recorded


SMALL = [path for path in sorted(FILES.rglob("*")) if path.suffix in (".json", ".jsonl", ".csv", ".yaml")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_cost_one_line(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, with a piece of it overwritten, or with a number that is none."""
    source = data.draw(st.sampled_from(SMALL))
    text = source.read_text(encoding="utf-8")[:8000]
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from(["", "null", "-1", "NaN", '"x"', "[]", "{}", "1e999", "\x00", "[[", ",", "9" * 30]))
    text = text[:at] + put + text[at + data.draw(st.integers(0, 40)) :]
    path = tmp_path / f"r{source.suffix}"
    path.write_text(text, encoding="utf-8")
    try:
        read_results(path)
    except ConfigError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_other_values_cost_one_line(tmp_path: Path, data: st.DataObject) -> None:
    """Whole JSON, with any one of its values another."""
    source = data.draw(
        st.sampled_from([path for path in SMALL if path.suffix == ".json" and "append" not in path.name])
    )
    values = json.loads(source.read_text(encoding="utf-8"))
    place, key = values, None
    for _ in range(data.draw(st.integers(1, 7))):
        inner = place if key is None else place[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        place, key = inner, data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
    other = st.sampled_from([None, -1, 0, 1e300, math.nan, math.inf, "many", True, [], {}, [1], {"avg": "x"}, 10**400])
    place[key] = data.draw(other)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    try:
        read_results(path)
    except ConfigError as error:
        assert "\n" not in str(error)
