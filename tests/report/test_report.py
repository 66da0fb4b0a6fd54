import json
import math
import os
from dataclasses import replace

import pytest
from reports import read_back

from kvsim.errors import KvsimError

SECTIONS = ["run", "config", "calibration", "workload", "cluster", "results", "why"]


@pytest.fixture
def report(make_report, make_result):
    return make_report(make_result("unified", {"queue_s": 0.3}), make_result("pd", {"queue_s": 0.1}))


def test_sections_and_keys_stand_in_the_documented_order(report):
    tree = json.loads(report.to_json())
    assert list(tree) == SECTIONS
    assert list(tree["calibration"])[:6] == ["profile", "method", "sources", "validity", "readiness", "warnings"]
    assert list(tree["workload"])[:4] == ["source", "format", "sha256", "requests"]
    assert list(tree["workload"])[-3:] == ["load", "users", "asked_requests_per_s"]
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
