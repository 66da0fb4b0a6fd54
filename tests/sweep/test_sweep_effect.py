"""Keys that change nothing are named."""

from __future__ import annotations

from pathlib import Path

from toy_sweep import plan_of, row_of

from kvsim.sweep.effect import without_effect

KEYS = "keys: {rate: [1, 2], engine.max_num_seqs: [8, 16], gpu: [h100]}\nreplications: 2\n"


def test_a_key_without_effect_is_told_from_one_that_has_some_in_one_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, KEYS)
    rows = [row_of(run, float(run.values["rate"])) for run in plan.runs()]
    assert without_effect(rows, plan.sweep) == ["engine.max_num_seqs"]
    rows[-1]["unified.goodput_requests_per_s"] = 9.0
    assert without_effect(rows, plan.sweep) == []


def test_replications_are_not_compared_with_each_other(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, KEYS)
    rows = [row_of(run, run.values["rate"] + 10.0 * run.replication) for run in plan.runs()]
    assert without_effect(rows, plan.sweep) == ["engine.max_num_seqs"]


def test_runs_that_failed_say_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, KEYS)
    rows = [row_of(run, 1.0, error="it broke" if run.point else None) for run in plan.runs()]
    assert without_effect(rows, plan.sweep) == []
