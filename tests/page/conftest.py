"""One run and its page for all tests of pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from experiments import run_pd

from kvsim.config import load_config
from kvsim.modes.experiment import Experiment
from kvsim.page import html_of
from kvsim.record.result import SystemResult
from kvsim.report.build import build
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock

SETS = ("pd_experiments.num_requests=60", "load.pilot_requests=60", "seed=7")


class Told(NamedTuple):
    report: Report
    results: Sequence[SystemResult]
    page: str


def _run() -> tuple[Report, Experiment]:
    loaded = load_config(preset="smoke", sets=SETS, mode="pd")
    experiment = run_pd(loaded.config, keeps_detail=True)
    return build(RunClock(), loaded, experiment, "pd"), experiment


@pytest.fixture(scope="session")
def told() -> Told:
    pytest.importorskip("vl_convert", reason="the package with the charts is not installed")
    report, experiment = _run()
    return Told(report, experiment.results, html_of(report, experiment.results))


@pytest.fixture
def run_again() -> tuple[Report, Experiment]:
    return _run()
