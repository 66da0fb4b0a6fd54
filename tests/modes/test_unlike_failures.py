"""Events about parts that one of the compared systems lacks: it runs without them, and the report says so."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from experiments import run_pd

from kvsim.cli import main
from kvsim.config import load_config
from kvsim.errors import AbsentError, ConfigError
from kvsim.modes.experiment import Experiment

SMALL = ("engine.tune_colocated_budget=false", "pd_experiments.num_requests=60", "pd_separation.pd_ratio=[1, 3]")
DECODE = "{kind: fail, at_s: 4, role: decode, duration_s: 5}"
UNIFIED = "{kind: slow, at_s: 4, role: colocated, duration_s: 5, factor: 2}"
RACK = "{kind: fail, at_s: 4, rack: 0, duration_s: 5}"
NIC = "{kind: nic, at_s: 4, role: decode, duration_s: 5, share: 0.5}"


def run(*events: str, **given: object) -> Experiment:
    sets = (*SMALL, f"fleet.events=[{', '.join(events)}]")
    return run_pd(load_config(preset="smoke", sets=sets).config, rate_per_s=3.0, **given)


@pytest.mark.parametrize(
    ("events", "left_out", "incidents"),
    [
        ((DECODE,), {"unified": (0,), "pd": ()}, {"unified": None, "pd": ["fail"]}),
        ((RACK, NIC), {"unified": (1,), "pd": ()}, {"unified": ["fail"], "pd": ["fail", "nic"]}),
        ((DECODE, UNIFIED), {"unified": (0,), "pd": (1,)}, {"unified": ["slow"], "pd": ["fail"]}),
    ],
)
def test_a_system_runs_without_what_happens_to_others(
    events: tuple[str, ...], left_out: dict[str, tuple[int, ...]], incidents: dict[str, list[str] | None]
) -> None:
    found = run(*events)
    assert not found.failures
    assert {result.name: result.events_left_out for result in found.results} == left_out
    for result in found.results:
        told = None if result.fleet is None else [incident.kind for incident in result.fleet.incidents]
        assert told == incidents[result.name]


@pytest.mark.parametrize(
    ("event", "systems", "words"),
    [
        ("{kind: fail, at_s: 4, role: decode, instance: 9}", ("unified", "pd"), "unified: there is no such instance"),
        ("{kind: fail, at_s: 4, role: decode, instance: 9}", ("unified", "pd"), "pd: there is no such instance"),
        ("{kind: pool, at_s: 4, rack: 0}", ("unified", "pd"), "unified: there is no such pool"),
        ("{kind: fail, at_s: 4, instance: 0}", ("unified", "pd"), "instance 0 of which role? Give role"),
        (DECODE, ("unified",), "there is no such instance; there are colocated 0 to"),
    ],
)
def test_what_concerns_nobody_is_an_error(event: str, systems: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(event, systems=systems)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_error_comes_out_of_a_process() -> None:
    error = pickle.loads(pickle.dumps(AbsentError({2: ("{kind: nic}", "none"), 1: ("{kind: pool}", "no pool")})))
    assert (str(error), sorted(error.absent)) == ("fleet.events: {kind: pool}: no pool", [1, 2])


def test_the_report_says_who_was_spared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [argument for each in (*SMALL, f"fleet.events=[{DECODE}]") for argument in ("--set", each)]
    written = ("--report-json", str(tmp_path / "report.json"), "--no-plot")
    assert main(["--pd", "--preset", "smoke", "--no-studies", "--rate", "3", *sets, *written]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "unified: fleet.events[0] (fail) concerns no part of this system, which ran without it" in said
    assert "[Not under the same failures: unified without fleet.events[0]]" in said
    tree = json.loads((tmp_path / "report.json").read_text())
    assert [result.get("events_left_out") for result in tree["results"]] == [[0], None]
