import json
import math
import os
from dataclasses import replace

import pytest
from reports import read_back

import kvsim
from kvsim.errors import KvsimError
from kvsim.report.json_report import write_json
from kvsim.report.run_clock import RunClock, peak_rss_bytes

SECTIONS = ["run", "config", "calibration", "workload", "cluster", "results"]


@pytest.fixture
def report(make_report, make_result):
    return make_report(make_result("unified", {"queue_s": 0.3}), make_result("pd", {"queue_s": 0.1}))


def test_sections_and_keys_stand_in_the_documented_order(report):
    tree = json.loads(report.to_json())
    assert list(tree) == SECTIONS
    assert list(tree["calibration"])[:6] == ["profile", "method", "sources", "validity", "readiness", "warnings"]
    assert list(tree["workload"])[:4] == ["source", "format", "sha256", "requests"]
    assert list(tree["workload"])[-1] == "load"
    assert list(tree["cluster"])[:4] == ["gpus", "instances", "racks", "prefill_instances"]
    assert [result["name"] for result in tree["results"]] == ["unified", "pd"]


def test_a_report_survives_the_file(tmp_path, report):
    path = tmp_path / "report.json"
    report.write_json(path)
    assert path.read_text() == report.to_json()
    assert read_back(json.loads(path.read_text())) == report
    assert os.listdir(tmp_path) == ["report.json"]


def test_two_runs_differ_under_run_alone(make_report, make_result):
    first, second = (make_report(make_result("pd", {"queue_s": 0.1}, sim_cpu_s=cpu_s)) for cpu_s in (0.5, 0.7))
    assert first.run != second.run
    assert replace(first, run=second.run).to_json() == second.to_json()


def test_run_adds_up_the_systems(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, sim_cpu_s=1.5, events=30)]
    run = RunClock().section(mode="pd", preset=None, seed=7, results=results)
    assert run.version == kvsim.__version__
    assert (run.mode, run.preset, run.seed) == ("pd", None, 7)
    assert (run.sim_cpu_s, run.events, run.requests_per_cpu_s) == (2.0, 100, 10.0)
    assert run.status == "complete"
    assert run.cpu_s > 0 and run.wall_s >= 0 and 2**20 < run.peak_rss_bytes == peak_rss_bytes()


def test_an_interrupted_system_makes_the_run_incomplete(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, incomplete=True)]
    assert RunClock().section(mode="pd", preset=None, seed=7, results=results).status == "incomplete"


def test_what_was_not_measured_is_null(make_report, make_result):
    report = make_report(make_result("pd", {"queue_s": 0.1}))
    odd = replace(report, calibration=replace(report.calibration, fit_error={"a": math.nan, "b": [math.inf]}))
    assert json.loads(odd.to_json())["calibration"]["fit_error"] == {"a": None, "b": [None]}


def test_studies_are_a_section_where_there_were_any(report):
    assert "studies" not in json.loads(report.to_json())
    assert json.loads(replace(report, studies={}).to_json())["studies"] == {}


def test_an_unwritable_path_is_one_line(tmp_path, report):
    with pytest.raises(KvsimError, match="there is no folder"):
        report.write_json(tmp_path / "absent" / "report.json")


def test_what_json_cannot_say_leaves_no_file(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", {"config": math.nan})
    assert os.listdir(tmp_path) == []
