"""Whole ``--pd`` runs, small: what is offered, what is tuned, what is reported, and what an interrupt leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import Bar
from experiments import run_pd

from kvsim.capacity.demand import demand_of
from kvsim.capacity.pilot import Trial, tuned_budget
from kvsim.capacity.steady import pd_residence, steady_requests
from kvsim.config import load_config
from kvsim.errors import ConfigError, WorkloadError
from kvsim.modes.experiment import Experiment
from kvsim.plan.plan import make_plan
from kvsim.record.result import SystemResult
from kvsim.sim.executor import Serial
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import ChatTraffic, TraceSource

UNTUNED = "engine.tune_colocated_budget=false"


def run(*sets: str, preset: str = "smoke", bar: type[Bar] = Bar, **given: object) -> Experiment:
    return run_pd(load_config(preset=preset, sets=[UNTUNED, *sets]).config, progress=bar, **given)


@pytest.fixture(scope="module")
def smoke() -> Experiment:
    return run("engine.tune_colocated_budget=true")


def trace_source(tmp_path: Path, num_requests: int = 300, gap_ms: int = 100) -> TraceSource:
    path = tmp_path / "trace.jsonl"
    row = '{{"timestamp": {}, "input_length": {}, "output_length": {}}}\n'
    path.write_text("".join(row.format(gap_ms * i, 500 + i % 9, 20 + i % 5) for i in range(num_requests)))
    return TraceSource(path, Reading("generic", None, "ms"))


def test_both_systems_serve_everything(smoke: Experiment):
    assert [result.name for result in smoke.results] == ["unified", "pd"]
    for result in smoke.results:
        assert result.completed == len(smoke.workload) == 200
        assert all(check.ok for check in result.checks)
        assert result.measured.sum() == 180
    assert not smoke.incomplete


def test_what_is_reported(smoke: Experiment):
    assert smoke.cluster.gpus == 16
    assert smoke.cluster.racks == 2
    assert sum(smoke.cluster.balanced_pd_ratio) == smoke.cluster.instances == 4
    assert smoke.load is not None
    assert smoke.load.requests_per_s == pytest.approx(0.7 * smoke.load.max_requests_per_s)
    assert smoke.load.of == "pd"
    assert set(smoke.cluster.served_max_requests_per_s) == {"unified", "pd"}


def test_loads_are_rate_over_maximum(smoke: Experiment):
    maxima = smoke.cluster.max_requests_per_s
    rate_per_s = smoke.workload.mean_rate_per_s
    loads = {role.role: role.load for result in smoke.results for role in result.roles}
    assert loads["prefill"] == pytest.approx(rate_per_s / maxima.prefill)
    assert loads["decode"] == pytest.approx(rate_per_s / maxima.decode)
    assert loads["colocated"] == pytest.approx(rate_per_s / maxima.unified)


def test_same_seed_same_results(smoke: Experiment):
    again = run("engine.tune_colocated_budget=true")
    assert again.load == smoke.load
    assert again.cluster == smoke.cluster
    for first, second in zip(smoke.results, again.results, strict=True):
        assert all(np.array_equal(first.table[name], second.table[name]) for name in first.table)
    other = run("seed=43")
    assert not np.array_equal(other.workload.arrival_s, smoke.workload.arrival_s)


def test_load_and_its_system_override_the_configuration():
    found = run(load=0.3, load_of="unified")
    assert found.load is not None
    assert (found.load.rho, found.load.of) == (0.3, "unified")
    assert found.workload.mean_rate_per_s == pytest.approx(found.load.requests_per_s, rel=0.25)


def test_configured_rate():
    found = run("pd_trace.qps=5")
    assert found.load is None
    assert found.workload.mean_rate_per_s == pytest.approx(5.0, rel=0.25)
    assert run("pd_trace.qps=5", load=0.5).load is not None


def test_trace_runs_whole_at_its_own_rate(tmp_path: Path):
    found = run(trace=trace_source(tmp_path))
    assert found.load is None
    assert len(found.workload) == 300
    assert found.workload.mean_rate_per_s == pytest.approx(10.0)
    assert run(trace=trace_source(tmp_path), replicas=2).workload.mean_rate_per_s == pytest.approx(20.0, rel=0.02)


def test_trace_is_brought_to_a_load(tmp_path: Path):
    found = run(trace=trace_source(tmp_path), load=0.5)
    assert found.load is not None
    assert found.workload.mean_rate_per_s == pytest.approx(found.load.requests_per_s)
    assert len(found.workload) % 300 == 0
    with pytest.raises(WorkloadError, match="workload replicas is 1"):
        run(trace=trace_source(tmp_path), load=5.0, replicas=1)


def test_load_is_that_of_the_requests_that_fit(tmp_path: Path):
    """Every other request is longer than the model: twice as many arrive, and half of them cost nothing."""
    source = trace_source(tmp_path)
    rows = Path(source.path).read_text().splitlines()
    long = [row.replace('"input_length": 5', '"input_length": 9995') if i % 2 else row for i, row in enumerate(rows)]
    Path(source.path).write_text("\n".join(long) + "\n")
    found, whole = run(trace=source, load=0.5), run(trace=trace_source(tmp_path), load=0.5)
    assert [result.failed for result in found.results] == [len(found.workload) // 2] * 2
    assert found.load is not None and whole.load is not None
    assert found.load.requests_per_s == pytest.approx(2 * whole.load.requests_per_s, rel=0.1)
    loads = [role.load for role in found.results[1].roles]
    assert max(loads) == pytest.approx(0.5, rel=0.1)
    for result in found.results:
        assert result.pace is not None
        assert result.pace.asked_per_s == pytest.approx(found.load.requests_per_s / 2, rel=0.05)


@pytest.mark.parametrize(("name", "known"), [("pd", ["prefill", "decode"]), ("unified", ["unified"])])
def test_no_maximum_is_told_of_a_system_that_is_not_run(tmp_path: Path, name: str, known: list[str]):
    """It would be by what the other one hit."""
    found = run(trace=trace_source(tmp_path), systems=(name,))
    assert [role for role, rate in vars(found.cluster.max_requests_per_s).items() if rate is not None] == known


def test_compared_systems_are_measured_over_one_window(smoke: Experiment):
    assert len({result.window_s for result in smoke.results}) == 1
    assert len({result.steady_why for result in smoke.results}) == 1


def test_requests_that_arrive_at_once(tmp_path: Path):
    found = run("engine.tune_colocated_budget=true", trace=trace_source(tmp_path, gap_ms=0))
    assert found.results[1].completed == 300
    assert any("not tuned" in note for note in found.notes)


def test_no_tuning_when_off():
    found = run("pd_trace.qps=5")
    assert found.cluster.unified_tuning is None
    assert found.cluster.unified_token_budget == 8192


def test_tuning_takes_the_best_goodput(smoke: Experiment):
    tuning = smoke.cluster.unified_tuning
    assert set(tuning.goodput_requests_per_s) == {"512", "2048", "8192"}
    goodput = tuning.goodput_requests_per_s
    assert goodput[str(tuning.budget_tokens)] >= 0.99 * max(goodput.values())
    assert smoke.cluster.unified_token_budget == tuning.budget_tokens


def test_tuning_follows_the_objective():
    """Long steps with prompts miss a strict TPOT; short ones starve prompts and miss a strict TTFT."""

    def best(*sets: str) -> int:
        config = load_config(sets=["cluster.simulate_racks=1", "engine.colocated_budgets=[256,8192]", *sets]).config
        trial = Trial(make_plan(config), ChatTraffic(config), 3, Serial(), lambda _: 1500)
        return tuned_budget(trial, 80.0).budget_tokens

    assert best("slo.tpot_ms=25", "slo.ttft_ms=100000") == 256
    assert best("slo.tpot_ms=100000", "slo.ttft_ms=300") == 8192


def test_sample_cluster_keeps_ratio_and_load():
    config = load_config().config
    trial = Trial(make_plan(config), ChatTraffic(config), 3, Serial(), lambda _: 100_000)
    small = trial.small_plan(1600.0)
    assert (small.num_prefill, small.num_decode) == (4, 12)
    requests = trial.workload(small, 1600.0, 4000)
    assert requests.mean_rate_per_s == pytest.approx(10.0, rel=0.2)
    assert len(requests) == 100_000 * 16 // 2560


def test_steady_state_takes_e2e_times_rate():
    config = load_config(sets=["cluster.simulate_racks=1"]).config
    plan = make_plan(config)
    demand = demand_of(ChatTraffic(config).population(), plan)
    few, many = (steady_requests(plan, demand, 20.0, factor, 0) for factor in (4.0, 8.0))
    stay = pd_residence(plan, demand, 20.0)
    assert many == pytest.approx(2 * few, abs=2)
    assert few >= 4 * 20.0 * stay.mean_s
    assert steady_requests(plan, demand, 20.0, 4.0, None) == pytest.approx(few / 0.9, abs=2)
    assert steady_requests(plan, demand, 20.0, 4.0, 500) == pytest.approx(few + 500, abs=2)
    # However little is asked for, completions catch up with arrivals long before the last one.
    assert 20.0 * stay.late_s < 0.71 * steady_requests(plan, demand, 20.0, 0.0, None)


def test_synthetic_traffic_is_enough_for_a_steady_state():
    sets = ("cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=16", "load.pilot_requests=300")
    found = run(*sets, preset="prod-eval", load=0.5)
    for result in found.results:
        start_s, end_s = result.window_s
        assert result.steady, result.steady_why
        assert start_s > 0
        assert end_s == pytest.approx(found.workload.arrival_s[-1])


def test_warmup_as_configured(tmp_path: Path):
    found = run("pd_experiments.warmup_requests=50", trace=trace_source(tmp_path, 150))
    assert found.results[0].measured.sum() == 100
    with pytest.raises(ConfigError, match=r"pd_experiments.warmup_requests is 150; allowed: below the 150 requests"):
        run("pd_experiments.warmup_requests=150", trace=trace_source(tmp_path, 150))


@pytest.mark.parametrize("load", [0.0, -1.0, float("nan"), float("inf")])
def test_loads_that_cannot_be(load: float):
    with pytest.raises(ConfigError, match="allowed: a finite number > 0"):
        run(load=load)


@pytest.mark.parametrize(("system", "names"), [("unified", ["unified"]), ("pd", ["unified", "pd"])])
def test_interrupt_keeps_what_is_done(system: str, names: list[str]):
    interrupting = type("Interrupting", (Bar,), {"interrupts": system})
    found = run("pd_experiments.num_requests=2500", "pd_trace.qps=10", bar=interrupting)
    assert found.incomplete
    assert [result.name for result in found.results] == names
    last: SystemResult = found.results[-1]
    assert last.incomplete
    assert 1000 <= last.completed < 2500
    assert all(check.ok for check in last.checks)
    assert bool(found.warnings) == (system == "unified")
    assert (found.cluster.balanced_pd_ratio is None) == (system == "unified")


def test_interrupt_before_the_first_system():
    with pytest.raises(KeyboardInterrupt):
        run(
            "load.pilot_requests=2500",
            "pd_experiments.num_requests=2500",
            bar=type("Interrupting", (Bar,), {"interrupts": "pilot pd"}),
        )


def test_stepwise_gives_the_same(smoke: Experiment):
    found = run("engine.tune_colocated_budget=true", stepwise=True)
    assert found.plan.decode_settings.stepwise
    for first, second in zip(smoke.results, found.results, strict=True):
        assert np.allclose(np.sort(first.table["finish_s"]), np.sort(second.table["finish_s"]), rtol=1e-9, atol=0)
