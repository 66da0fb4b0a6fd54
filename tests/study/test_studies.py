"""Studies: intervals, the grid of ratios, which ratio wins on which traffic, strategies against hand calculations."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from experiments import context_of, run_pd

from kvsim.capacity.demand import CacheFacts, demand_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.config import load_config
from kvsim.config.comparison import read_comparison
from kvsim.config.load import changed
from kvsim.errors import CapacityError, ConfigError
from kvsim.modes.experiment import Experiment
from kvsim.plan.plan import make_plan
from kvsim.record.plain import plain
from kvsim.record.result import SystemResult
from kvsim.study.intervals import Interval, difference, interval
from kvsim.study.measures import latencies
from kvsim.study.questions import compare as compare_module
from kvsim.study.questions.compare import check_comparisons
from kvsim.study.questions.pd_ratio import RatioAnswer, pd_ratio_study, ratio_grid
from kvsim.study.questions.transfer import transfer_study
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import ChatTraffic, TraceSource, TraceTraffic

SMALL = (
    "cluster.simulate_racks=1",
    "cluster.simulate_gpus_per_rack=64",
    "engine.tensor_parallel_size=1",
    "model.name=llama-3.1-8b",
    "engine.num_gpu_blocks_override=1500",
    "engine.tune_colocated_budget=false",
    "studies.instances=64",
    "studies.replications=2",
    "studies.most_replications=2",
    "load.pilot_requests=1000",
    "pd_experiments.num_requests=2000",
    "studies.max_requests=3000",
)


def studied(*sets: str, names: tuple[str, ...] = (), compare: tuple[str, ...] = ()) -> dict[str, Any]:
    experiment = experimented(*sets, names=names, compare=compare)
    assert experiment.studies is not None and not experiment.incomplete and not experiment.failures
    return experiment.studies


def experimented(
    *sets: str,
    names: tuple[str, ...] = (),
    compare: tuple[str, ...] = (),
    trace: Path | None = None,
    limit: int | None = None,
    load: float | None = None,
) -> Experiment:
    source = None if trace is None else TraceSource(trace, Reading("auto", limit, "ms"))
    return run_pd(
        load_config(sets=[*SMALL, *sets]).config,
        trace=source,
        load=load,
        studies=names,
        comparisons=[read_comparison(text) for text in compare],
    )


def test_intervals_are_student_s() -> None:
    found = interval([1.0, 2.0, 3.0], 0.95)
    assert (found.mean, found.half_width) == (2.0, pytest.approx(4.302652729911275 / np.sqrt(3)))
    assert plain(interval([5.0], 0.95)) == {"mean": 5.0, "half_width": None}


def test_noise_that_both_share_is_no_difference() -> None:
    noise = [10.0, 30.0, 20.0]
    assert difference([n + 1 for n in noise], noise, 0.95).verdict(0.0) == "higher"
    assert difference([9.0, 31.0, 20.5], noise, 0.95).verdict(0.0) == "open"
    assert Interval(0.0, 0.0).verdict(0.0) == "same"


@pytest.mark.parametrize(
    ("mean", "half_width", "verdict"),
    [(0.01, 0.0, "tie"), (0.6, 0.3, "tie"), (0.6, 0.5, "higher"), (-2.0, 1.0, "lower"), (-2.0, 2.5, "open"),
     (20_665.0, math.inf, "open"), (0.1, math.inf, "open"), (math.nan, math.nan, "open")],
)  # fmt: skip
def test_what_does_not_matter_is_a_tie_and_what_is_not_known_is_none(
    mean: float, half_width: float, verdict: str
) -> None:
    assert Interval(mean, half_width).verdict(1.0) == verdict


def test_a_figure_that_a_run_lacks_has_no_mean() -> None:
    assert plain(interval([1.0, math.nan], 0.95)) == {"mean": None, "half_width": None}


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


def near_balance(study: RatioAnswer) -> bool:
    """Whether the best point of the grid is the one nearest the analytic balance, or next to it."""
    ratios = [point.ratio for point in study.points]
    return abs(ratios.index(study.best) - ratios.index(study.balanced)) <= 1


def test_output_heavy_traffic_wants_decode_instances() -> None:
    study = studied(
        "pd_trace.output_tokens_mean=400", "pd_trace.new_tokens_mean=100", "pd_trace.system_prompt_tokens=100",
        "pd_trace.history_tokens_mean=0", "studies.instances=16", names=("pd_ratio",),
    )["pd_ratio"]  # fmt: skip
    assert study.size.instances == 16 and near_balance(study)
    assert study.best[0] < study.best[1]
    marked = [point for point in study.points if point.balanced]
    assert [point.ratio for point in marked] == [study.balanced]


def test_prompt_heavy_traffic_wants_prefill_instances() -> None:
    study = studied(
        "pd_trace.output_tokens_mean=20", "pd_trace.new_tokens_mean=2500", "pd_trace.system_prompt_tokens=100",
        "pd_trace.history_tokens_mean=0", "studies.instances=32", names=("pd_ratio",),
    )["pd_ratio"]  # fmt: skip
    assert near_balance(study) and study.best[0] > study.best[1]


def test_transfer_strategies_have_the_signs_of_a_hand_calculation() -> None:
    study = studied(
        "pd_separation.transfer.rdma_gb_per_s=2", "cluster.network.gpus_per_host=1",
        "studies.instances=8", "studies.max_requests=600", names=("transfer",),
    )["transfer"]  # fmt: skip
    rows = {row.name: row for row in study.rows}
    change_ms = {name: row.ttft_mean_difference_ms.mean for name, row in rows.items()}
    assert rows["push, by chunk"].ttft_mean_difference_ms.verdict == "same"
    assert change_ms["push, by layer"] < 0 < change_ms["NIC x 1/4"]
    assert change_ms["compressed 2 x"] < 0 and change_ms["no contention"] <= 0 <= change_ms["pull"]
    quarter, whole = (rows[name].figures.transfer_mean_ms.mean for name in ("NIC x 1/4", "as configured"))
    assert quarter > 3.9 * whole
    assert json.dumps(plain(study), allow_nan=False)


def test_contexts_that_no_instance_holds_are_left_out() -> None:
    study = studied("studies.instances=4", "studies.context_tokens=[1024,131072]", names=("context",))["context"]
    assert [row.context_tokens for row in study.rows] == [1024]
    assert study.rows[0].pd["ttft_mean_ms"].mean > 0


def test_long_prompts_meet_both_systems_at_one_rate_and_pd_at_its_balance() -> None:
    """At the configured 1:7 PD could not serve what is offered: it would be compared with an overloaded self."""
    sets = ("studies.instances=16", "studies.context_tokens=[2048]", "studies.context_output_tokens=20",
            "pd_separation.pd_ratio=[1,7]")  # fmt: skip
    (row,) = studied(*sets, names=("context",))["context"].rows
    assert row.pd_ratio[0] > row.pd_ratio[1]
    assert max(row.load.values()) == pytest.approx(0.7) and min(row.load.values()) > 0.4
    assert row.pd["ttft_mean_ms"].mean < 4 * row.unified["ttft_mean_ms"].mean


def test_a_sample_has_four_of_each_role() -> None:
    config = load_config(sets=[*SMALL, "studies.instances=8", "pd_separation.pd_ratio=[1,3]"]).config
    context = context_of(make_plan(config), ChatTraffic(config), 10.0)
    assert (context.sample.num_prefill, context.sample.num_decode, context.small.num_instances) == (4, 12, 8)
    lopsided = replace(context, plan=context.plan.with_counts(1, 63))
    assert lopsided.sample.num_instances == 32


def test_small_budgets_of_unified_spare_tpot_and_cost_ttft() -> None:
    sets = ("studies.instances=4", "engine.colocated_budgets=[512,8192]", "pd_trace.new_tokens_mean=3000")
    study = studied(*sets, names=("unified_budget",))
    rows = {row.max_num_batched_tokens: row for row in study["unified_budget"].rows}
    assert sorted(rows) == [512, 8192] and [row.used for row in rows.values()].count(True) == 1
    assert rows[512].figures.ttft_mean_ms.mean > rows[8192].figures.ttft_mean_ms.mean
    assert rows[512].figures.tpot_p99_ms.mean < rows[8192].figures.tpot_p99_ms.mean
    used = next(row for row in rows.values() if row.used)
    assert used.good_share_difference.verdict == "same" and not used.tie


def test_any_setting_can_be_compared() -> None:
    study = studied(
        "studies.instances=8", "studies.max_requests=600", "studies.replications=3", "cluster.network.gpus_per_host=1",
        compare=("routing.prefill=affinity,round_robin", "stepwise=true", "pd_separation.transfer.rdma_gb_per_s=0.5"),
    )["compare"]  # fmt: skip
    routers, stepwise, slow = study.keys
    assert routers.configured == "affinity" and stepwise.configured is False
    same, other = routers.rows
    for row in (same, *stepwise.rows):
        for name in ("unified", "pd"):
            assert row.means[name]["ttft_mean_ms"].mean == pytest.approx(study.configured[name]["ttft_mean_ms"].mean)
            assert {apart.verdict for apart in row.differences[name].values()} == {"same"}
    assert other.unified["prefix_hit_rate"].mean < same.unified["prefix_hit_rate"].mean
    assert not other.unified_difference["prefix_hit_rate"].tie
    assert slow.rows[0].pd_difference["ttft_mean_ms"].mean > 0
    assert slow.rows[0].unified_difference["ttft_mean_ms"].tie


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routing.prefill", "is not of the form"),
        ("routing.prefil=round_robin", "did you mean 'routing.prefill'"),
        ("pd_trace.qps=3", "changes what is served"),
        ("engine.block_size=", "one value or several"),
        ("stepwise=3", "must be a boolean"),
        ("engine.block_size=x", "engine.block_size = 'x': must be an integer"),
        ("routing.prefill=round_robbin", "unknown policy 'round_robbin'; did you mean 'round_robin'"),
        ("policies.eviction=acr", "did you mean 'arc'"),
        ("policies.admission=al", "did you mean 'all'"),
        ("policies.prefetch=sesion", "did you mean 'session'"),
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


def rows_of_a_trace(path: Path, count: int, times: int = 1, gap_ms: int = 50) -> Path:
    """Prompts and answers that differ, at equal gaps; the whole so many times, end to end."""
    random = np.random.default_rng(5)
    lengths = [*zip(random.integers(100, 2000, count), random.integers(5, 60, count), strict=True)] * times
    rows = (
        f'{{"timestamp": {gap_ms * at}, "input_length": {prompt}, "output_length": {output}}}\n'
        for at, (prompt, output) in enumerate(lengths)
    )
    path.write_text("".join(rows))
    return path


def test_a_short_trace_is_laid_end_to_end_and_says_so(tmp_path: Path) -> None:
    """A window at saturation needs more requests than there are: what is found is what the long file would give."""
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=1500")
    sets = (*sets, "steptime.method=roofline")
    traces = [rows_of_a_trace(tmp_path / f"{times}.jsonl", 150, times, gap_ms=8) for times in (1, 10)]
    short, long = (experimented(*sets, names=("pd_ratio",), trace=trace).studies["pd_ratio"] for trace in traces)
    assert short.size.trace_requests == 150 and short.requests == 1000 > short.requests_needed
    assert short.best == long.best
    rates = [max(point.throughput_requests_per_s.mean for point in found.points) for found in (short, long)]
    assert rates[0] == pytest.approx(rates[1], rel=0.05)


@pytest.mark.parametrize(("replicas", "rate_per_s", "copies"), [(None, 20.0, 1), (None, 60.0, 3), (8, 20.0, 8)])
def test_parts_of_copies_are_stretched_as_the_run_is(
    tmp_path: Path, replicas: int | None, rate_per_s: float, copies: int
) -> None:
    trace = TraceSource(rows_of_a_trace(tmp_path / "t.jsonl", 400), Reading("auto", None, "ms"))
    plan = make_plan(load_config(sets=[*SMALL, "cluster.simulate_gpus_per_rack=16"]).config)
    context = context_of(plan, TraceTraffic(trace, replicas, 1), rate_per_s)
    for share in (0.25, 0.5, 1.0, 2.0):
        part = context.workload(share * rate_per_s, 100, 3)
        assert f"100 requests in a row of {math.ceil(copies * share)} copies" in " ".join(part.info.notes)
        assert part.mean_rate_per_s == pytest.approx(share * rate_per_s)


def test_replications_of_one_copy_of_a_trace_differ(tmp_path: Path) -> None:
    trace = rows_of_a_trace(tmp_path / "t.jsonl", 400)
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=150")
    study = experimented(*sets, names=("unified_budget",), trace=trace).studies["unified_budget"]
    assert study.requests_per_s == pytest.approx(20.0)
    assert all(row.figures.ttft_mean_ms.half_width > 0 for row in study.rows)


@pytest.mark.parametrize("load", [None, 0.05])
def test_studies_of_a_limited_trace_are_those_of_a_shorter_file(tmp_path: Path, load: float | None) -> None:
    whole, head = tmp_path / "whole.jsonl", rows_of_a_trace(tmp_path / "head.jsonl", 120)
    later = (f'{{"timestamp": {50 * at}, "input_length": 20000, "output_length": 9}}\n' for at in range(120, 400))
    whole.write_text(head.read_text() + "".join(later))
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=100",
            "model.max_model_len=24000")  # fmt: skip
    asked = {"names": ("pd_ratio", "unified_budget"), "load": load}
    limited = experimented(*sets, **asked, trace=whole, limit=120)
    cut = experimented(*sets, **asked, trace=head)
    assert len(limited.workload) == 120 and limited.studies["pd_ratio"].size.trace_requests == 120
    assert plain(limited.studies) == plain(cut.studies) and not limited.failures
    assert limited.workload.prompt_tokens.max() < 2000


HIT = 0.95


@pytest.mark.parametrize("hits", [HIT, 0.0], ids=["more", "none"])
def test_ratios_stand_beside_what_their_own_runs_hit(tmp_path: Path, hits: float) -> None:
    """The run that the study belongs to may hit more than the study's own runs, or less."""
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=1500")
    config = load_config(sets=[*SMALL, *sets, "pd_trace.output_tokens_mean=20"]).config
    plan = make_plan(config)
    trace = TraceSource(rows_of_a_trace(tmp_path / "t.jsonl", 400), Reading("auto", None, "ms"))
    traffic = TraceTraffic(trace, None, 1) if hits else ChatTraffic(config)
    prompts = traffic.population().prompt_tokens.astype(float)
    facts = CacheFacts(prompts, hits * prompts, (1 - hits) * prompts)
    demand = demand_of(traffic.population(), plan, facts)
    study = pd_ratio_study(context_of(plan, traffic, 20.0, demand))
    for point in study.points:
        served = point.throughput_requests_per_s.mean
        assert point.analytic_requests_per_s == pytest.approx(served, rel=0.1), point.ratio
    assert near_balance(study) and study.unsaturated == ()
    first = study.points[0]
    of_the_run = maximum_rate(plan.with_counts(*first.ratio), demand, "pd") / first.analytic_requests_per_s
    assert of_the_run > 1.2 if hits else of_the_run < 1 / 1.2


def test_what_the_run_s_rate_asks_of_a_study_is_by_the_study_s_own_hits(tmp_path: Path) -> None:
    """Nothing hits there, whatever the run hit."""
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=300")
    plan = make_plan(load_config(sets=[*SMALL, *sets]).config)
    trace = TraceSource(rows_of_a_trace(tmp_path / "t.jsonl", 400), Reading("auto", None, "ms"))
    traffic = TraceTraffic(trace, None, 1)
    prompts = traffic.population().prompt_tokens.astype(float)
    of_the_run = demand_of(traffic.population(), plan, CacheFacts(prompts, HIT * prompts, (1 - HIT) * prompts))
    rate_per_s = 1.3 * maximum_rate(plan, demand_of(traffic.population(), plan), "pd")
    study = transfer_study(context_of(plan, traffic, rate_per_s, of_the_run))
    assert study.loads == {"pd": pytest.approx(1.3, rel=0.1)}


def test_runs_too_short_for_any_answer_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = (f'{{"timestamp": {10 * at}, "input_length": 2, "output_length": 300}}\n' for at in range(120))
    path.write_text("".join(rows))
    sets = ("studies.instances=8", "cluster.simulate_gpus_per_rack=8", "studies.max_requests=100")
    (failure,) = experimented(*sets, names=("pd_ratio",), trace=path).failures
    assert failure.why.startswith("none of 100 requests completes before the last one arrives: a steady state takes ")
    assert failure.why.endswith("studies.max_requests is 100") and not failure.is_defect


@pytest.mark.parametrize("count", [2, 99])
def test_a_trace_of_too_few_requests_has_no_studies(tmp_path: Path, count: int) -> None:
    trace = rows_of_a_trace(tmp_path / "t.jsonl", count)
    experiment = experimented("cluster.simulate_gpus_per_rack=8", names=("pd_ratio", "context"), trace=trace)
    assert experiment.studies is None and len(experiment.results) == 2 and not experiment.failures
    assert f"studies left out: too few requests ({count}; needs at least 100)" in experiment.warnings


def test_sessions_of_too_few_requests_have_no_studies() -> None:
    sets = ("pd_trace.num_sessions=20", "pd_experiments.num_requests=60", "cluster.simulate_gpus_per_rack=8")
    experiment = experimented(*sets, names=("transfer",))
    assert experiment.studies is None
    assert "studies left out: too few requests (80; needs at least 100)" in experiment.warnings


def test_latencies_of_nothing_name_the_cause() -> None:
    nothing = SimpleNamespace(name="pd", misfits=60, arrived=60, fleet=None, measured=np.zeros(60, dtype=bool))
    with pytest.raises(CapacityError, match=r"^pd completes no request that counts; 60 of 60 do not fit$"):
        latencies(nothing)  # type: ignore[arg-type]


def test_variants_of_a_study_share_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow NICs make E2E longer, and a window of their own would begin later."""
    windows: list[tuple[float, float]] = []
    figures = compare_module._figures

    def seen(result: SystemResult) -> dict[str, float]:
        windows.append(result.window_s)
        return figures(result)

    monkeypatch.setattr(compare_module, "_figures", seen)
    studied("studies.instances=4", "studies.max_requests=100", compare=("pd_separation.transfer.rdma_gb_per_s=0.05",))
    assert len(windows) % 4 == 0 and windows
    for at in range(0, len(windows), 4):
        assert len(set(windows[at : at + 4])) == 1
