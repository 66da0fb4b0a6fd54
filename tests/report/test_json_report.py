import json
import math
import os

import pytest

import kvsim
from kvsim.errors import KvsimError
from kvsim.report.json_report import RunClock, build_report, peak_rss_bytes, write_json

SECTIONS = ["run", "config", "calibration", "workload", "cluster", "results"]


@pytest.fixture
def report(make_report, make_result):
    return make_report(make_result("unified", {"queue_s": 0.3}), make_result("pd", {"queue_s": 0.1}))


def test_sections_and_keys_stand_in_the_documented_order(report):
    assert list(report) == SECTIONS
    assert list(report["calibration"]) == ["profile", "method", "sources", "validity", "readiness", "warnings"]
    assert list(report["workload"])[:4] == ["source", "format", "sha256", "requests"]
    assert list(report["workload"])[-1] == "load"
    assert [result["name"] for result in report["results"]] == ["unified", "pd"]


def test_a_report_survives_the_file(tmp_path, report):
    path = tmp_path / "report.json"
    write_json(path, report)
    assert json.loads(path.read_text()) == report
    assert os.listdir(tmp_path) == ["report.json"]


def test_two_runs_differ_under_run_alone(make_report, make_result):
    first, second = (make_report(make_result("pd", {"queue_s": 0.1}, sim_cpu_s=cpu_s)) for cpu_s in (0.5, 0.7))
    assert first["run"] != second["run"]
    assert json.dumps(first | {"run": None}) == json.dumps(second | {"run": None})


def test_run_adds_up_the_systems(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, sim_cpu_s=1.5, events=30)]
    run = RunClock().section(mode="pd", preset=None, seed=7, results=results)
    assert run["version"] == kvsim.__version__
    assert (run["mode"], run["preset"], run["seed"]) == ("pd", None, 7)
    assert (run["sim_cpu_s"], run["events"], run["requests_per_cpu_s"]) == (2.0, 100, 10.0)
    assert run["status"] == "complete"
    assert run["cpu_s"] > 0 and run["wall_s"] >= 0 and 2**20 < run["peak_rss_bytes"] == peak_rss_bytes()


def test_an_interrupted_system_makes_the_run_incomplete(make_result):
    results = [make_result("unified", {}), make_result("pd", {}, incomplete=True)]
    assert RunClock().section(mode="pd", preset=None, seed=7, results=results)["status"] == "incomplete"


def test_nan_becomes_null(tmp_path, report):
    rebuilt = build_report(**(report | {"config": {"a": math.nan, "b": [math.inf]}}))
    assert rebuilt["config"] == {"a": None, "b": [None]}
    assert "studies" not in rebuilt
    assert build_report(**report, studies={"sweep": []})["studies"] == {"sweep": []}


def test_a_section_without_its_keys_is_refused(report):
    with pytest.raises(KeyError, match="sha256"):
        build_report(**(report | {"workload": {"source": "x", "format": "y"}}))


def test_an_unwritable_path_is_one_line(tmp_path, report):
    with pytest.raises(KvsimError, match="there is no folder"):
        write_json(tmp_path / "absent" / "report.json", report)


def test_what_json_cannot_say_leaves_no_file(tmp_path, report):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", report | {"config": math.nan})
    assert os.listdir(tmp_path) == []
