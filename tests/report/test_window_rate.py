"""What is completed in the measured window stands beside what came in it, where traffic swells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reports import report_of, summary

from kvsim.cli import main
from kvsim.report.conclusion import condition

RARE, OFTEN = 2.0, 0.25
"""Seconds between requests in the first and the last 100 s."""


def trace(folder: Path, *gaps_s: float) -> Path:
    """Requests one after the other, at one gap for 100 s after the other."""
    at_s, rows = 0.0, []
    for place, gap_s in enumerate(gaps_s):
        while at_s < 100 * (place + 1):
            rows.append({"timestamp": round(1000 * at_s), "input_length": 500, "output_length": 8})
            at_s += gap_s
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("gaps_s", "inside"), [((RARE, OFTEN), True), ((OFTEN, OFTEN), False)])
def test_rates_of_one_window_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gaps_s: tuple[float, ...], inside: bool
) -> None:
    written = ("--report-json", str(tmp_path / "report.json"), "--no-plot", "--no-studies")
    path = str(trace(tmp_path, *gaps_s))
    read = ("--workload-trace", path, "--workload-format", "generic", "--workload-time-unit", "ms")
    assert main(["--pd", "--systems", "unified", "--preset", "smoke", *read, *written]) == 0
    said = " ".join(capsys.readouterr().out.split())
    tree = json.loads((tmp_path / "report.json").read_text())
    window, completed = tree["results"][0]["window_s"], tree["results"][0]["throughput"]["requests_per_s"]
    assert not window["whole"]
    if not inside:
        assert "window_requests_per_s" not in tree["workload"] and "in the measured window" not in said
        return
    quiet_s = 100 - window["start"]
    came = (quiet_s / RARE + 100 / OFTEN) / (window["end"] - window["start"])
    assert tree["workload"]["window_requests_per_s"] == pytest.approx(came, rel=0.02)
    assert completed == pytest.approx(came, rel=0.02), "nobody completes more than came"
    assert completed > 1.1 * tree["workload"]["requests"] / tree["workload"]["span_s"]
    inside_per_s = tree["workload"]["window_requests_per_s"]
    assert f"requests/s ({inside_per_s:.3g} in the measured window)" in said


def test_the_condition_says_both_rates() -> None:
    report = report_of(summary())
    asked = replace(report, workload=replace(report.workload, load=None, asked_requests_per_s=3.5))
    own = replace(asked, workload=replace(asked.workload, asked_requests_per_s=None, requests=350, span_s=100.0))
    for given, words in ((asked, "at 3.5 requests/s"), (own, "at the workload's own 3.50 requests/s")):
        assert condition(given) == words
        inside = replace(given, workload=replace(given.workload, window_requests_per_s=3.9))
        assert condition(inside) == f"{words} (3.90 in the measured window)"
