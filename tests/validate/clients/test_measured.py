"""Rows of ``kvsim measure``: what is written is read, whole and as a load; broken rows are one line each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.measure import ClientFacts, MeasuredRun, MetricsReading, RequestRow, ServerMetrics
from kvsim.measure.files import measured_of, write_bench, write_rows
from kvsim.measure.summary import summary_of
from kvsim.validate.clients.read import read_results
from kvsim.workload.hits import token_hit_rate
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload

FILES = Path(__file__).parent / "files"
FACTS = ClientFacts(
    version="0.1.0",
    lag_p99_s=0.001,
    lag_max_s=0.002,
    loop_lag_p99_s=0.001,
    loop_lag_max_s=0.004,
    cpu_share=0.25,
    most_in_flight=3,
    saturated=False,
)


def workload() -> Workload:
    return word_of("in=60-90,out=5,prefix=40:3").generate(12, 5.0, 3)


def run_of(workload: Workload, **changed: Any) -> MeasuredRun:
    """A request a tenth of a second late, its tokens 20 ms apart; the fifth failed."""
    rows = []
    for request in workload:
        sent_s = round(request.arrival_s + 0.1, 6)
        times = [round(sent_s + 0.25 + 0.02 * at, 6) for at in range(5)]
        row = RequestRow(
            request_id=request.request_id,
            scheduled_s=round(request.arrival_s, 6),
            sent_s=sent_s,
            prompt_tokens=request.prompt_tokens,
            output_tokens=5,
            cached_tokens=request.request_id,
            first_token_s=times[0],
            finish_s=times[-1],
            chunk_s=(times[0], times[2], times[4]),
            chunk_tokens=(1, 2, 2),
            asked_tokens=5,
            pieces=request.pieces,
            output_chain=request.output_chain,
        )
        if request.request_id == 4:
            row.status, row.error, row.chunk_s, row.chunk_tokens = "http_500", "died", (), ()
            row.first_token_s, row.output_tokens, row.cached_tokens = None, 0, None
        rows.append(row)
    before, after = (MetricsReading(at, prefix_queries=at * 100, prefix_hits=at * 40, running=0.0) for at in (0.0, 9.0))
    run = MeasuredRun(
        rows=tuple(rows),
        duration_s=3.5,
        client=FACTS,
        metrics=ServerMetrics(before, after, (MetricsReading(1.0, running=2.0), MetricsReading(2.0, running=3.0))),
        url="http://h:8000",
        model="meta-llama/Llama-3.1-8B-Instruct",
        workload="made here",
        seed=3,
        started_at="2026-05-04T03:02:01.000+00:00",
        asked=12,
        timeout_s=600.0,
        notes=("a note",),
        server={"engine": "vllm"},
    )
    return replace(run, **changed)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_run_comes_back_whole(tmp_path: Path, name: str) -> None:
    run = run_of(workload())
    written = write_rows(tmp_path / name, run)
    assert [path.name for path in written] == [name, name.replace("rows.", "rows.metrics.")]
    (found,) = measured_of(tmp_path / name)
    assert found == run


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_load_has_the_prompts_that_were_sent(tmp_path: Path, name: str) -> None:
    served = workload()
    write_rows(tmp_path / name, run_of(served))
    (load,) = read_results(tmp_path)
    assert (load.client, load.completed, load.failures, load.model) == (
        "kvsim measure", 11, 1, "meta-llama/Llama-3.1-8B-Instruct",
    )  # fmt: skip
    assert load.ttft_s["mean"] == pytest.approx(0.25) and load.e2e_s["p99"] == pytest.approx(0.33)
    assert load.tpot_mean_s == pytest.approx(0.02) and load.itl_s["mean"] == pytest.approx(0.02)
    assert load.itl_s["p50"] == pytest.approx(0.02) and load.assumed == ()
    again = load.traffic.workload("rows", 1)
    assert again.arrival_s == pytest.approx(served.arrival_s - served.arrival_s[0], abs=1e-5)
    for column in ("prompt_tokens", "piece_offsets", "piece_chain", "piece_tokens", "output_chain"):
        assert np.array_equal(getattr(again, column), getattr(served, column)), column
    assert token_hit_rate(
        again.prompt_tokens, again.output_tokens, again.output_chain, again.piece_offsets, again.piece_chain,
        again.piece_tokens,
    ) > 0  # fmt: skip


def test_a_closed_loop_that_was_full_is_sent_as_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", run_of(workload(), max_concurrency=1, waits=True))
    (load,) = read_results(tmp_path / "rows.jsonl")
    assert load.traffic.max_in_flight == 1 and load.traffic.timeout_s == 600 and "does not wait" in load.assumed[0]


def test_the_bench_result_has_the_same_figures(tmp_path: Path) -> None:
    run = run_of(workload())
    write_bench(tmp_path / "b.json", run)
    written = json.loads((tmp_path / "b.json").read_text())
    assert (written["completed"], written["failed"], written["num_prompts"]) == (11, 1, 12)
    assert written["errors"][-1] == "http_500: died" and written["total_output_tokens"] == 55
    assert written["mean_ttft_ms"] == pytest.approx(250) and written["mean_tpot_ms"] == pytest.approx(20)
    assert written["duration"] == pytest.approx(summary_of(run).span_s, rel=0.2)
    (load,) = read_results(tmp_path / "b.json")
    assert (load.completed, load.failures) == (11, 1) and load.e2e_s["mean"] == pytest.approx(0.33)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sent_s", "x", "sent_s = 'x': must be a number"),
        ("sent_s", -1, "sent_s = -1"),
        ("prompt_tokens", 1.5, "prompt_tokens = 1.5"),
        ("finish_s", 0.0, "finish_s = 0.0: must be a time from sent_s on"),
        ("pieces", [[1]], "pieces"),
        ("pieces", [[1, 0]], "pieces"),
        ("chunk_tokens", [1], "as many as chunk_s"),
        ("chunk_tokens", [0, 1, 2], "from 1"),
        ("output_chain", "a", "output_chain = 'a': must be a whole number"),
    ],
)
def test_a_broken_row_is_one_line(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, run_of(workload()))
    lines = path.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {key: value})
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as raised:
        read_results(path)
    assert str(raised.value).startswith("rows.jsonl: request 3: ") and said in str(raised.value)
    with pytest.raises(ConfigError):
        measured_of(path)


def test_files_of_a_later_version_and_of_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"kvsim_measure": 2}\n')
    with pytest.raises(ConfigError, match=r"kvsim_measure = 2: this kvsim reads version 1"):
        read_results(tmp_path / "a.jsonl")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"b\.parquet: not readable as Parquet"):
        read_results(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("name", "client"),
    [
        ("vllm-0.32-append.json", "vllm bench serve"),
        ("guidellm-0.8.json", "GuideLLM"),
        ("sglang-0.5.6.jsonl", "sglang bench_serving"),
        ("aiperf-0.13", "AIPerf"),
        ("inference-perf-0.7", "inference-perf"),
    ],
)
def test_other_clients_rows_as_if_measured_here(name: str, client: str) -> None:
    loads = [load for load in read_results(FILES / name) if load.rows is not None]
    if not loads:
        with pytest.raises(ConfigError, match="has sums and no single requests"):
            measured_of(FILES / name)
        return
    runs = measured_of(FILES / name)
    assert len(runs) == len(loads)
    for run, load in zip(runs, loads, strict=True):
        summary = summary_of(run)
        assert run.made_by == client == load.client and run.client is None and not run.is_saturated
        assert (summary.answered, summary.sent) == (load.completed, load.traffic.requests)
        if load.ttft_s:
            assert summary.ttft_s.mean == pytest.approx(load.ttft_s["mean"])
            assert summary.tpot_s.mean == pytest.approx(load.tpot_mean_s)
        assert summary.e2e_s.p99 == pytest.approx(load.e2e_s["p99"])
