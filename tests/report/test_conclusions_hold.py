"""Every sentence of a conclusion, held against the rows of requests it stands on: small runs of all modes, and lies."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conclusion_checker import check_conclusion, concluded, read_rows

from kvsim.cli import main

SMALL = ("--preset", "smoke", "--no-studies", "--no-plot", "--quiet")
PD = ("--pd", "--set", "engine.tune_colocated_budget=false")
SHORT = ("--set", "pd_trace.output_tokens_mean=40", "--set", "pd_experiments.num_requests=300")
DATA_SHEET = ("--set", "steptime.method=roofline")
CASES = {
    "as it comes": PD,
    "steady": (*PD, *SHORT),
    "overloaded": (*PD, *SHORT, "--set", "pd_trace.qps=400"),
    "a strict SLO": (*PD, *SHORT, *DATA_SHEET, "--set", "slo.tpot_ms=16", "--set", "slo.ttft_ms=100"),
    "policies": ("--policy", "baseline,arc,belady"),
    "policies, overloaded": ("--policy", "baseline,arc", "--set", "trace.qps=50"),
    "memories": ("--cluster",),
}
Run = tuple[dict[str, Any], list[dict[str, str]]]


def run(folder: Path, flags: tuple[str, ...]) -> Run:
    report, rows = folder / "report.json", folder / "requests.csv"
    assert main([*flags, *SMALL, "--report-json", str(report), "--report-csv", str(rows), "--out", str(folder)]) == 0
    return json.loads(report.read_text()), read_rows(rows)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    done: dict[str, Run] = {}

    def find(name: str) -> Run:
        if name not in done:
            done[name] = run(tmp_path_factory.mktemp("run"), CASES[name])
        return done[name]

    return find


@pytest.mark.parametrize("name", CASES)
def test_what_is_concluded_is_so(runs: Callable[[str], Run], name: str) -> None:
    report, rows = runs(name)
    assert check_conclusion(report, rows) == []


@pytest.mark.parametrize("name", ["a strict SLO", "overloaded", "policies"])
def test_no_figure_can_be_another(runs: Callable[[str], Run], name: str) -> None:
    """Each number of the sentence a tenth larger: the checker knows it."""
    report, rows = runs(name)
    told = concluded(report)
    for figure in re.finditer(r"(?<![\w.>])\d[\d,]*(?:\.\d+)?", told):
        lie = 1.1 * float(figure.group().replace(",", "")) + 2 * (told[figure.end()] == "%")
        assert check_conclusion(report, rows, f"{told[: figure.start()]}{lie:.4g}{told[figure.end() :]}"), figure


def test_no_claim_can_be_turned_round(runs: Callable[[str], Run]) -> None:
    report, rows = runs("a strict SLO")
    told = concluded(report)
    assert told.startswith("Unified gives")
    turned = told.replace("Unified", "X").replace("PD", "unified").replace("unified's", "PD's").replace("X", "PD")
    lies = (
        turned,
        told.replace("gives", "and PD tie in goodput", 1),
        told.replace("lower p99 TPOT", "lower p99 TTFT"),
        told.replace("prefill compute", "queue"),
        told + " And more.",
        f"[Indicative only, not steady: PD] {told}",
    )
    for lie in lies:
        assert lie != told
        assert check_conclusion(report, rows, lie), lie


def test_windows_of_their_own_are_found(runs: Callable[[str], Run]) -> None:
    report, rows = copy.deepcopy(runs("a strict SLO"))
    report["results"][0]["window_s"]["end"] += 10.0
    assert any("windows of their own" in finding for finding in check_conclusion(report, rows))
