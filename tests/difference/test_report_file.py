"""Reports that are read for what was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kvsim
from kvsim.difference.diff import DiffSpec, run_diff
from kvsim.difference.report_file import is_json, read_report
from kvsim.errors import ConfigError, KvsimError
from kvsim.sim.executor import Serial

FEW = {"pd_experiments.num_requests": 40, "load.pilot_requests": 40, "engine.tune_colocated_budget": False}
LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct"


def rerun(path: Path) -> None:
    """Run again it comes out as it says: nothing is to be noted of it."""
    asked = read_report(path)
    answer = run_diff(DiffSpec(asked, asked, asked.names, replications=1), Serial())
    assert answer.identical and len(answer.systems) == len(asked.names)
    assert not [note for note in answer.notes if "when run again" in note]


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("pd", {"sets": FEW, "load": 0.4, "load_of": "unified"}),
        ("pd", {"sets": FEW, "workload": "rag", "rate": 3.0, "requests": 30}),
        ("pd", {"sets": FEW, "engine": "vllm serve Qwen/Qwen3-32B -tp 2", "gpus": 8}),
        ("single", {"sets": {"experiments.num_requests": 40, "load.pilot_requests": 40}, "policy": "lru,arc"}),
        ("cluster", {"sets": {"cluster_experiments.num_requests": 40, "load.pilot_requests": 40}}),
        (LINE, {"rate": 4.0, "requests": 40, "searches_rate": False}),
        (LINE, {"workload": "sharegpt", "concurrency": 8, "requests": 40, "searches_rate": False}),
    ],
)
def test_what_a_report_tells_of_comes_out_again(what: str, asked: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    preset = {} if what == LINE else {"preset": "smoke"}
    kvsim.simulate(what, **preset, **asked).write_json(path)
    assert is_json(path)
    rerun(path)


@pytest.mark.parametrize("left", ["", "\n", "[]"])
def test_a_report_that_was_cut_off_is_no_configuration(left: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(left)
    assert is_json(path)
    with pytest.raises(ConfigError, match=r"no JSON|no report of kvsim's"):
        read_report(path)
    empty = tmp_path / "c.yaml"
    empty.write_text(left)
    assert not is_json(empty)


def test_what_comes_out_otherwise_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    tree = json.loads(kvsim.simulate("pd", preset="smoke", sets=FEW, systems=["unified"]).to_json())
    tree["results"][0]["ttft_ms"]["mean"] = 1.0
    path.write_text(json.dumps(tree))
    asked = read_report(path)
    (note,) = (each for each in run_diff(DiffSpec(asked, asked, replications=1), Serial()).notes if "again" in each)
    assert note.startswith(f"{path}: unified has a mean TTFT of 1.00 ms in the report and of ")


def test_a_trace_is_found_beside_the_report_and_missed_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{i}.5,{200 + i},3\n" for i in range(40))
    Path("t.csv").write_text(f"arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}")
    from kvsim.workload.reading import Reading
    from kvsim.workload.traffic import TraceSource

    trace = TraceSource("t.csv", Reading(limit=30, arrival_scale=2.0))
    kvsim.simulate("pd", preset="smoke", trace=trace, sets=FEW, systems=["pd"]).write_json("r.json")
    assert json.loads(Path("r.json").read_text())["workload"]["asked"] == {
        "workload": None,
        "trace": "t.csv",
        "reading": {"limit": 30, "arrival_scale": 2.0},
        "concurrency": None,
        "requests": None,
        "replicas": None,
    }
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    rerun(Path("../r.json"))
    Path("../t.csv").rename("../other.csv")
    with pytest.raises(KvsimError, match=r"^\.\./r\.json: its trace 't\.csv' is missing"):
        read_report(Path("../r.json"))


def test_a_mode_with_its_own_traffic_asks_for_nothing(tmp_path: Path) -> None:
    found = kvsim.simulate("pd", preset="smoke", sets=FEW, systems=["unified"])
    assert "asked" not in json.loads(found.to_json())["workload"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kvsim.simulate("pd", preset="smoke", sets=FEW, systems=["unified"]).to_json())
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run": {"version": "0.0.1"}}, "written by kvsim 0.0.1, this is"),
        ({"run": {"mode": "lab"}}, "mode 'lab' is unknown; known: single, cluster, pd, predict"),
        ({"run": {"seed": 1}}, "its run has seed 1, its configuration 42"),
        ({"config": {"sed": 1}}, "unknown key"),
        ({"workload": {"format": "azure", "source": "x.csv"}}, "does not say how its trace 'x.csv' was read"),
        ({"workload": {"asked": {"trace": 3}}}, "no report of kvsim's: "),
    ],
)
def test_what_cannot_be_run_again(
    report: dict[str, Any], changes: dict[str, dict[str, Any]], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({name: section | changes.get(name, {}) if isinstance(section, dict) else section
                                for name, section in report.items()}))  # fmt: skip
    with pytest.raises(KvsimError) as refused:
        read_report(path)
    assert str(refused.value).startswith(f"{path}: ") and said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON: "),
        ("[]", "no section 'run'"),
        ('{"run": []}', "no section 'run'"),
        ('{"run": {}, "config": {}, "workload": {}, "results": []}', "a report without results"),
    ],
)
def test_what_is_no_report(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_report(path)
