"""From a run to what ``simulate`` is called with."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_sweep import plan_of

from kvsim.sweep.arguments import ARGUMENTS
from kvsim.sweep.files import KeptTrace
from kvsim.sweep.tasks import task_of
from kvsim.sweep.work import arguments_of
from kvsim.workload.reading import Reading

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n"


def test_a_mode_has_its_words_its_keys_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    (tmp_path / "c.yaml").write_text("seed: 7\n")
    text = """
preset: smoke
config: c.yaml
profile: none
workload_limit: 5
set: {slo: {ttft_ms: 500}, engine.max_num_seqs: 8}
keys:
  trace: [t.csv]
  load: [0.5, 0.7]
  workload_arrival_scale: [2.0]
  routing.decode: [capacity]
"""
    plan = plan_of(tmp_path, text, head="mode: pd\n")
    run = plan.run(1)
    given = arguments_of(task_of(plan.sweep, run))
    trace = given.pop("trace")
    assert isinstance(trace, KeptTrace) and trace.reading == Reading(limit=5, arrival_scale=2.0)
    assert str(trace.path) == str(tmp_path / "t.csv") and trace.sha256 == plan.sweep.files["t.csv"]
    assert given == {
        "what": "pd",
        "preset": "smoke",
        "config": str(tmp_path / "c.yaml"),
        "profile": "none",
        "load": 0.7,
        "detail": False,
        "sets": {"slo.ttft_ms": 500, "engine.max_num_seqs": 8, "routing.decode": "capacity", "seed": run.seed},
    }


def test_a_server_is_asked_for_its_run_alone(tmp_path: Path) -> None:
    text = "gpu: h100\nprofile: h100_70b_reference\nkeys: {server: [vllm serve a, vllm serve b], instances: [2]}\n"
    plan = plan_of(tmp_path, text, head="")
    run = plan.run(1)
    assert arguments_of(task_of(plan.sweep, run)) == {
        "what": "vllm serve b",
        "gpu": "h100",
        "instances": 2,
        "profile": "h100_70b_reference",
        "sets": {"seed": run.seed},
        "searches_rate": False,
        "finds_binding": False,
        "detail": False,
    }


def test_every_argument_is_one_of_simulates_or_of_a_reading() -> None:
    import inspect

    from kvsim.api import simulate
    from kvsim.sweep.arguments import READING

    known = {*inspect.signature(simulate).parameters} | {"mode", "server", *READING}
    assert set(ARGUMENTS) <= known


@pytest.mark.parametrize("name", ["served.requests", "served.gpus"])
def test_no_key_of_the_configuration_is_called_as_a_figure_is(name: str) -> None:
    from kvsim.config.layer import all_keys
    from kvsim.config.schema import Config

    assert not [key for key in all_keys(Config) if key.startswith("served.")] and name not in ARGUMENTS
