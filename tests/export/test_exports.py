"""Every exported file against the result it is made of, read by the tools themselves where they are installed."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from kvsim.api import load_workload
from kvsim.cli import main
from kvsim.errors import KvsimError
from kvsim.export.base import with_part
from kvsim.export.perfetto import lanes
from kvsim.export.registry import EXPORTERS, target_of
from kvsim.units import MILLI

SYSTEMS = ("unified", "pd")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind of file of one small run of both systems, and its report."""
    folder = tmp_path_factory.mktemp("exported")
    flags = ["--pd", "--preset", "smoke", "--no-studies", "--no-plot", "--quiet", "--jobs", "1"]
    flags += ["--report-json", str(folder / "report.json")]
    for target in ("a.csv", "a.parquet", "p.json.gz", "a.prom", "a.yaml"):
        flags += ["--export", str(folder / target)]
    for kind, file in (("vllm-bench", "b.json"), ("aiperf", "t.jsonl"), ("mooncake", "m.jsonl")):
        flags += ["--export", f"{kind}={folder / file}"]
    assert main(flags) == 0
    return folder


def summary(exported: Path, system: str) -> dict:
    report = json.loads((exported / "report.json").read_text())
    return next(found for found in report["results"] if found["name"] == system)


def requests(exported: Path, system: str) -> pl.DataFrame:
    return pl.read_parquet(exported / "a.parquet").filter(system=system)


@pytest.mark.parametrize("system", SYSTEMS)
def test_parquet_has_the_numbers_of_the_report(exported: Path, system: str) -> None:
    frame, expected = requests(exported, system), summary(exported, system)
    measured = frame.filter("measured")
    assert measured["ttft_s"].mean() / MILLI == pytest.approx(expected["ttft_ms"]["mean"])
    timeline = pl.read_parquet(exported / "a.timeline.parquet").filter(system=system, scope="all")
    assert timeline["output_tokens"].sum() == frame["output_tokens"].sum()
    steps = pl.read_parquet(exported / "a.steps.parquet").filter(system=system)
    assert steps["output_tokens"].sum() == frame["output_tokens"].sum()


def test_parquet_opens_in_duckdb(exported: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"select system, count(*) from '{exported / 'a.parquet'}' group by system").fetchall()
    assert dict(found) == {system: len(requests(exported, system)) for system in SYSTEMS}


def test_parquet_opens_in_pandas(exported: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert len(pandas.read_parquet(exported / "a.parquet")) == sum(len(requests(exported, s)) for s in SYSTEMS)


def trace(exported: Path, system: str) -> dict:
    return json.loads(gzip.decompress((exported / f"p.{system}.json.gz").read_bytes()))


@pytest.mark.parametrize("system", SYSTEMS)
def test_sql_over_the_trace_gives_the_numbers_of_the_report(exported: Path, system: str) -> None:
    """By SQLite, over the events as they stand: Perfetto's own processor is downloaded when it is first used."""
    base = sqlite3.connect(":memory:")
    base.execute("create table slice (name, cat, ts, dur, args)")
    for event in trace(exported, system)["traceEvents"]:
        if event["ph"] == "X":
            row = (event["name"], event["cat"], event["ts"], event["dur"], json.dumps(event["args"]))
            base.execute("insert into slice values (?, ?, ?, ?, ?)", row)

    def one(what: str, where: str) -> float:
        return base.execute(f"select {what} from slice where {where}").fetchone()[0]

    frame, expected = requests(exported, system), summary(exported, system)
    ttft_s = one("avg(args ->> 'ttft_s')", "cat = 'request' and args ->> 'measured' = 1")
    assert ttft_s / MILLI == pytest.approx(expected["ttft_ms"]["mean"])
    assert one("sum(args ->> 'output_tokens')", "cat = 'step'") == frame["output_tokens"].sum()
    steps = pl.read_parquet(exported / "a.steps.parquet").filter(system=system)
    assert one("sum(args ->> 'num_steps')", "cat = 'step'") == steps["num_steps"].sum()
    assert (
        one("count(*)", "cat = 'transfer' and args ->> 'kind' = 'prompt'")
        == (expected["transfer"] or {"transfers": 0})["transfers"]
    )


def test_sql_of_the_trace_processor_gives_the_numbers_of_the_report(exported: Path) -> None:
    processor = pytest.importorskip("perfetto.trace_processor")
    try:
        opened = processor.TraceProcessor(trace=str(exported / "p.unified.json.gz"))
    except Exception as error:
        pytest.skip(f"the trace processor is not there: {error}")
    value = "avg(extract_arg(arg_set_id, 'args.ttft_s')) as found"
    where = "category = 'request' and extract_arg(arg_set_id, 'args.measured') = 1"
    (row,) = opened.query(f"select {value} from slice where {where}")
    assert row.found / MILLI == pytest.approx(summary(exported, "unified")["ttft_ms"]["mean"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_slices_of_a_lane_are_nested_and_flows_begin_and_end_in_one(exported: Path, system: str) -> None:
    open_ends: dict[tuple[int, int], list[int]] = {}
    slices: dict[tuple[int, int], list[tuple[int, int]]] = {}
    events = trace(exported, system)["traceEvents"]
    for event in events:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            slices.setdefault((event["pid"], event["tid"]), []).append((start, start + round(event["dur"] * 1000)))
    for lane, found in slices.items():
        stack = open_ends.setdefault(lane, [])
        for start, end in sorted(found, key=lambda times: (times[0], -times[1])):
            while stack and stack[-1] <= start:
                stack.pop()
            assert not stack or end <= stack[-1], lane
            stack.append(end)
    flows: dict[int, list[str]] = {}
    for event in events:
        if event.get("cat") == "flow":
            flows.setdefault(event["id"], []).append(event["ph"])
            at = round(event["ts"] * 1000)
            assert any(start <= at <= end for start, end in slices[event["pid"], event["tid"]])
    assert len(flows) == len(requests(exported, system))
    assert all(phases[0] == "s" and phases[-1] == "f" and set(phases[1:-1]) <= {"t"} for phases in flows.values())


def test_lanes_are_as_few_as_there_can_be() -> None:
    assert lanes(np.array([0.0, 1.0, 2.0, 2.5]), np.array([2.0, 3.0, 3.0, 4.0])) == [1, 2, 1, 3]


def test_prometheus_text_is_read_by_its_own_client(exported: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    families = {found.name: found for found in parser.text_string_to_metric_families((exported / "a.prom").read_text())}
    assert {"vllm:generation_tokens", "vllm:kv_cache_usage_perc", "vllm:inter_token_latency_seconds"} <= set(families)


@pytest.mark.parametrize("system", SYSTEMS)
def test_prometheus_text_has_the_numbers_of_the_run(exported: Path, system: str) -> None:
    frame = requests(exported, system)

    def total(name: str) -> float:
        lines = (exported / "a.prom").read_text().splitlines()
        own = [line for line in lines if line.startswith(f"vllm:{name}{{") and f'system="{system}"' in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in own)

    assert total("generation_tokens_total") == frame["output_tokens"].sum()
    assert total("time_to_first_token_seconds_count") == len(frame)
    assert total("time_to_first_token_seconds_sum") == pytest.approx(frame["ttft_s"].sum())
    assert total("e2e_request_latency_seconds_sum") == pytest.approx(frame["e2e_s"].sum())
    assert total("inter_token_latency_seconds_count") == (frame["output_tokens"] - 1).sum()
    assert total("inter_token_latency_seconds_sum") == pytest.approx((frame["e2e_s"] - frame["ttft_s"]).sum())


@pytest.mark.parametrize("system", SYSTEMS)
def test_vllm_bench_has_the_numbers_of_the_report(exported: Path, system: str) -> None:
    found, expected = json.loads((exported / f"b.{system}.json").read_text()), summary(exported, system)
    for name, ours in (("ttft", "ttft_ms"), ("tpot", "tpot_ms"), ("e2el", "e2e_ms")):
        assert found[f"mean_{name}_ms"] == pytest.approx(expected[ours]["mean"])
        assert found[f"p99_{name}_ms"] == pytest.approx(expected[ours]["p99"])
    assert found["mean_itl_ms"] == pytest.approx(expected["itl_ms"]["mean"])
    assert found["p99_itl_ms"] == pytest.approx(expected["itl_ms"]["p99"], rel=2e-3)
    assert found["completed"] == len(found["ttfts"]) == requests(exported, system)["measured"].sum()
    for ttft_s, itls_s, latency_s, tokens in zip(
        found["ttfts"], found["itls"], found["latencies"], found["output_lens"], strict=True
    ):
        assert len(itls_s) == tokens - 1
        assert ttft_s + sum(itls_s) == pytest.approx(latency_s)


@pytest.mark.parametrize("system", SYSTEMS)
def test_llmd_report_has_the_numbers_of_the_report(exported: Path, system: str) -> None:
    found, expected = yaml.safe_load((exported / f"a.{system}.yaml").read_text()), summary(exported, system)
    performance = found["results"]["request_performance"]["aggregate"]
    assert found["version"] == "0.2"
    assert performance["latency"]["time_to_first_token"]["mean"] / MILLI == pytest.approx(expected["ttft_ms"]["mean"])
    assert performance["throughput"]["request_rate"]["mean"] == expected["throughput"]["requests_per_s"]
    roles = [component["standardized"]["role"] for component in found["scenario"]["stack"]]
    assert roles == (["replica"] if system == "unified" else ["prefill", "decode"])


@pytest.mark.parametrize("name", ["t", "m"])
def test_traces_are_what_was_served_without_the_warm_up(exported: Path, name: str) -> None:
    found, frame = load_workload(exported / f"{name}.unified.jsonl"), requests(exported, "unified").filter("measured")
    assert found.prompt_tokens.tolist() == frame["prompt_tokens"].to_list()
    assert found.output_tokens.tolist() == frame["output_tokens"].to_list()
    np.testing.assert_allclose(found.arrival_s, frame["arrival_s"] - frame["arrival_s"][0], atol=1e-3)


def test_names_of_files() -> None:
    assert with_part(Path("x/a.json.gz"), "pd") == Path("x/a.pd.json.gz")
    assert with_part(Path("a.b.csv"), "my.py:Mine") == Path("a.b.my.py_Mine.csv")
    assert target_of("perfetto=a.json") == (EXPORTERS["perfetto"], Path("a.json"))
    assert target_of("a.parquet") == (EXPORTERS["parquet"], Path("a.parquet"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parket=a", "'parket' is no kind of file to export; did you mean 'parquet'?"),
        ("csv=", "'csv=' names no file; KIND=FILE is wanted"),
        ("a.json", "'a.json' does not say what it is to hold; KIND=FILE is wanted, KIND one of csv, parquet"),
    ],
)
def test_what_cannot_be_exported_is_one_line(text: str, said: str) -> None:
    with pytest.raises(KvsimError, match=f"^{said.replace('?', '[?]')}"):
        target_of(text)


def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.parquet"
    path.write_text("not a table")
    assert main(["--preset", "smoke", "--no-plot", "--export", str(path)]) == 2
    assert "is there and no parquet file of kvsim's" in capsys.readouterr().err
    assert path.read_text() == "not a table"
