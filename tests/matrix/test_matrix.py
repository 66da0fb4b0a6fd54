"""A part of the matrix (``make matrix`` runs all of it): odd traces in every mode, each with another thing on."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from run import MODES, WITH, Cell
from traces import odd_traces, write_trace
from verdict import verdict

from kvsim.cli import main

TRACES = odd_traces()
CELLS = [
    (trace, mode, list(WITH)[(row + 3 * column) % len(WITH)])
    for row, trace in enumerate(TRACES)
    for column, mode in enumerate(MODES)
]


@pytest.mark.parametrize(("trace", "mode", "what"), CELLS, ids=[" ".join(cell) for cell in CELLS])
def test_a_run_ends_with_its_report_or_one_line(
    trace: str, mode: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = Cell(write_trace(tmp_path / "t.jsonl", TRACES[trace]), mode, "smoke", what)
    report, table = tmp_path / "r.json", tmp_path / "r.csv"
    outputs = ("--report-json", report, "--report-csv", table, "--no-plot", "--quiet", "--out", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code = main([*cell.arguments(), *map(str, outputs)])
    assert verdict(code, capsys.readouterr().err, report, table)[1] == []


def test_verdicts(tmp_path: Path) -> None:
    """The judge itself: what is neither a report nor one line of error."""
    nothing = tmp_path / "none.json", tmp_path / "none.csv"
    assert verdict(2, "kvsim: error: no request fits\n", *nothing) == ("refused", [])
    assert verdict(2, "kvsim: error: a\nkvsim: error: b\n", *nothing)[1] == ["2 lines of error"]
    assert verdict(0, "", *nothing)[1] == ["no report"]
    assert verdict(1, "Traceback (most recent call last)", *nothing)[1][1] == "exit code 1"
