"""A run keeps its main result, whatever fails beside it, and however short its trace is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


def rows_of_a_trace(path: Path, arrivals_s: Sequence[float]) -> Path:
    rows = (f'{{"timestamp": {1000 * at:.0f}, "input_length": 300, "output_length": 20}}\n' for at in arrivals_s)
    path.write_text("".join(rows))
    return path


@pytest.mark.parametrize(
    "arrivals_s",
    [[0.0], [0, 0, 0], [0, 400], [0, 0, 0, 0, 90], [3 * i for i in range(30)]],
    ids=["one", "at once", "two far apart", "a burst and one", "thirty"],
)
def test_a_short_trace_on_a_large_cluster_keeps_its_result(
    kvsim: Callable[..., Any], tmp_path: Path, arrivals_s: list[float]
) -> None:
    """The share that a sample of 320 instances gets of such traffic rounds to no request at all."""
    trace = rows_of_a_trace(tmp_path / "t.jsonl", arrivals_s)
    size = ("--preset", "smoke", "--set", "cluster.simulate_racks=20", "--set", "cluster.simulate_gpus_per_rack=64")
    done = kvsim("--pd", "--workload-trace", trace, *size, "--no-plot", "--report-json", "r.json")
    assert (done.code, done.err.count("error")) == (0, 0)
    report = json.loads(Path("r.json").read_text())
    assert [result["requests"]["completed"] for result in report["results"]] == [len(arrivals_s)] * 2
    assert not any(failure["is_defect"] for failure in report["run"]["failures"])


def test_nothing_that_fails_beside_it_costs_the_result(
    kvsim: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study, a picture, and the file of requests, each with an exception that nobody thought of."""
    from kvsim.report import csv_report, plots
    from kvsim.study.catalogue import studies

    monkeypatch.setitem(studies(), "transfer", replace(studies()["transfer"], ask=lambda context: 1 / 0))
    monkeypatch.setattr(plots, "utilisation", lambda report, results: [][0])
    monkeypatch.setattr(csv_report, "write_csv", lambda path, results: {}["x"])
    files = ("--report-json", "r.json", "--report-csv", "r.csv", "--out", "out")
    done = kvsim("--pd", "--preset", "smoke", "--studies", "transfer", *files)
    assert done.code == 1
    assert "study transfer failed, a defect of kvsim: ZeroDivisionError" in " ".join(done.out.split())
    assert done.err.count("a defect of kvsim") == 2
    report = json.loads(Path("r.json").read_text())
    assert len(report["results"]) == 2 and report["studies"] == {}
    assert "1 / 0" in report["run"]["failures"][0]["trace"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["ttft_cdf.png", "ttft_waterfall.png"]
