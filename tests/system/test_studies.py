"""Studies: intervals, the grid of ratios, which ratio wins on which traffic, strategies against hand calculations."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.config.changed import changed
from kvsim.config.comparison import read_comparison
from kvsim.errors import ConfigError
from kvsim.system.experiment import Experiment, run_pd
from kvsim.system.plan import make_plan
from kvsim.system.studies.compare import check_comparisons
from kvsim.system.studies.intervals import Interval, difference, interval
from kvsim.system.studies.pd_ratio import ratio_grid

SMALL = (
    "cluster.simulate_racks=1",
    "cluster.simulate_gpus_per_rack=64",
    "engine.tensor_parallel_size=1",
    "model.name=llama-3.1-8b",
    "engine.num_gpu_blocks_override=1500",
    "engine.tune_colocated_budget=false",
    "studies.instances=64",
    "studies.replications=2",
    "load.pilot_requests=1000",
    "pd_experiments.num_requests=2000",
    "studies.max_requests=3000",
)


def studied(*sets: str, names: tuple[str, ...] = (), compare: tuple[str, ...] = ()) -> dict:
    experiment = experimented(*sets, names=names, compare=compare)
    assert experiment.studies is not None and not experiment.incomplete and not experiment.failures
    return experiment.studies


def experimented(*sets: str, names: tuple[str, ...] = (), compare: tuple[str, ...] = ()) -> Experiment:
    return run_pd(
        load_config(sets=[*SMALL, *sets]).config,
        trace=None,
        load=None,
        load_of=None,
        replicas=None,
        stepwise=False,
        progress=lambda label, total: nullcontext(SimpleNamespace(update=lambda done, now_s: None)),
        studies=names,
        comparisons=[read_comparison(text) for text in compare],
    )


def test_intervals_are_student_s() -> None:
    found = interval([1.0, 2.0, 3.0], 0.95)
    assert (found.mean, found.half_width) == (2.0, pytest.approx(4.302652729911275 / np.sqrt(3)))
    assert interval([5.0], 0.95).report() == {"mean": 5.0, "half_width": None}


def test_noise_that_both_share_is_no_difference() -> None:
    noise = [10.0, 30.0, 20.0]
    assert not difference([n + 1 for n in noise], noise, 0.95).holds_zero
    assert difference([9.0, 31.0, 20.5], noise, 0.95).holds_zero
    assert Interval(0.0, 0.0).holds_zero


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_intervals_hold_the_mean_as_often_as_they_say(confidence: float) -> None:
    random = np.random.default_rng(1)
    held = [
        abs(found.mean - 3.0) <= found.half_width
        for found in (interval(random.normal(3.0, 2.0, 4).tolist(), confidence) for _ in range(4000))
    ]
    assert np.mean(held) == pytest.approx(confidence, abs=0.03)


def test_the_grid_has_the_asked_for_ratios_the_balance_and_its_neighbours() -> None:
    plan = make_plan(load_config(sets=[*SMALL, "pd_experiments.pd_ratios=[[1,1],[1,3]]"]).config)
    assert ratio_grid(plan, (48, 16)) == [(p, 64 - p) for p in (16, 32, 40, 44, 48, 52, 56)]
    assert ratio_grid(plan, (62, 2))[-1] == (62, 2)


def test_a_changed_configuration_is_checked_as_any_other() -> None:
    config = load_config().config
    assert changed(config, {"engine.block_size": 32}, "x").engine.block_size == 32
    with pytest.raises(ConfigError, match=r"^x: pd_separation.transfer.strategy = 'pul': must be"):
        changed(config, {"pd_separation.transfer.strategy": "pul"}, "x")


def near_balance(study: dict) -> bool:
    """Whether the best point of the grid is the one nearest the analytic balance, or next to it."""
    ratios = [point["ratio"] for point in study["points"]]
    return abs(ratios.index(study["best"]) - ratios.index(study["balanced"])) <= 1


def test_output_heavy_traffic_wants_decode_instances() -> None:
    study = studied(
        "pd_trace.output_tokens_mean=400", "pd_trace.new_tokens_mean=100", "pd_trace.system_prompt_tokens=100",
        "pd_trace.history_tokens_mean=0", names=("pd_ratio",),
    )["pd_ratio"]  # fmt: skip
    assert study["instances"] == 64 and near_balance(study)
    assert study["best"][0] < study["best"][1]
    marked = [point for point in study["points"] if point["balanced"]]
    assert [point["ratio"] for point in marked] == [study["balanced"]]


def test_prompt_heavy_traffic_wants_prefill_instances() -> None:
    study = studied(
        "pd_trace.output_tokens_mean=20", "pd_trace.new_tokens_mean=2500", "pd_trace.system_prompt_tokens=100",
        "pd_trace.history_tokens_mean=0", names=("pd_ratio",),
    )["pd_ratio"]  # fmt: skip
    assert near_balance(study) and study["best"][0] > study["best"][1]


def test_transfer_strategies_have_the_signs_of_a_hand_calculation() -> None:
    study = studied(
        "pd_separation.transfer.rdma_gb_per_s=2", "cluster.network.gpus_per_host=1",
        "studies.instances=8", "studies.max_requests=600", names=("transfer",),
    )["transfer"]  # fmt: skip
    rows = {row["name"]: row for row in study["rows"]}
    change_ms = {name: row["ttft_mean_difference_ms"]["mean"] for name, row in rows.items()}
    assert rows["push, by chunk"]["tie"] and change_ms["push, by chunk"] == 0
    assert change_ms["push, by layer"] < 0 < change_ms["NIC x 1/4"]
    assert change_ms["compressed 2 x"] < 0 and change_ms["no contention"] <= 0 <= change_ms["pull"]
    quarter, whole = rows["NIC x 1/4"]["transfer_mean_ms"]["mean"], rows["as configured"]["transfer_mean_ms"]["mean"]
    assert quarter > 3.9 * whole
    assert json.dumps(study)


def test_contexts_that_no_instance_holds_are_left_out() -> None:
    study = studied("studies.instances=4", "studies.context_tokens=[1024,131072]", names=("context",))["context"]
    assert [row["context_tokens"] for row in study["rows"]] == [1024]
    assert study["rows"][0]["pd"]["ttft_mean_ms"]["mean"] > 0


def test_small_budgets_of_unified_spare_tpot_and_cost_ttft() -> None:
    sets = ("studies.instances=4", "engine.colocated_budgets=[512,8192]", "pd_trace.new_tokens_mean=1000")
    study = studied(*sets, names=("unified_budget",))
    rows = {row["max_num_batched_tokens"]: row for row in study["unified_budget"]["rows"]}
    assert sorted(rows) == [512, 8192] and [row["used"] for row in rows.values()].count(True) == 1
    assert rows[512]["ttft_mean_ms"]["mean"] > rows[8192]["ttft_mean_ms"]["mean"]
    assert rows[512]["tpot_p99_ms"]["mean"] < rows[8192]["tpot_p99_ms"]["mean"]
    used = next(row for row in rows.values() if row["used"])
    assert used["good_share_difference"] == {"mean": 0.0, "half_width": 0.0} and not used["tie"]


def test_any_setting_can_be_compared() -> None:
    study = studied(
        "studies.instances=8", "studies.max_requests=600", "studies.replications=3", "cluster.network.gpus_per_host=1",
        compare=("routing.prefill=affinity,round_robin", "stepwise=true", "pd_separation.transfer.rdma_gb_per_s=0.5"),
    )["compare"]  # fmt: skip
    routers, stepwise, slow = study["keys"]
    assert routers["configured"] == "affinity" and stepwise["configured"] is False
    same, other = routers["rows"]
    for row in (same, *stepwise["rows"]):
        for name in ("unified", "pd"):
            assert row[name]["ttft_mean_ms"]["mean"] == pytest.approx(study["configured"][name]["ttft_mean_ms"]["mean"])
            assert all(apart["tie"] for apart in row[f"{name}_difference"].values())
    assert other["unified"]["prefix_hit_rate"]["mean"] < same["unified"]["prefix_hit_rate"]["mean"]
    assert not other["unified_difference"]["prefix_hit_rate"]["tie"]
    assert slow["rows"][0]["pd_difference"]["ttft_mean_ms"]["mean"] > 0
    assert slow["rows"][0]["unified_difference"]["ttft_mean_ms"]["tie"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routing.prefill", "is not of the form"),
        ("routing.prefil=round_robin", "did you mean 'routing.prefill'"),
        ("pd_trace.qps=3", "changes what is served"),
        ("engine.block_size=", "one value or several"),
        ("stepwise=3", "must be a boolean"),
        ("engine.block_size=x", "engine.block_size = 'x': must be an integer"),
        ("routing.prefill=round_robbin", "unknown router 'round_robbin'; did you mean 'round_robin'"),
    ],
)
def test_comparisons_of_nothing_are_refused_before_anything_runs(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        check_comparisons(make_plan(load_config(sets=SMALL).config), [read_comparison(text)])
    assert "\n" not in str(refused.value)


def test_a_value_with_which_nothing_is_served_is_named() -> None:
    sets = ("studies.instances=4", "studies.max_requests=100")
    experiment = experimented(*sets, compare=("engine.num_gpu_blocks_override=10",))
    assert experiment.studies == {} and len(experiment.results) == 2
    (failure,) = experiment.failures
    assert failure.part == "study compare" and not failure.is_defect
    assert failure.why.startswith("engine.num_gpu_blocks_override = 10: unified completes no request")
