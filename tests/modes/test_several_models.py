"""Several models in one cluster: each does what it would do alone with its part of the requests."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import kvsim
from kvsim.capacity.sources import WordSource
from kvsim.config.several import seed_of
from kvsim.config.tree import leaves
from kvsim.errors import ConfigError, KvsimError, WorkloadError
from kvsim.modes.experiment import Experiment, ExperimentSpec, run_experiment
from kvsim.modes.models import ModelRuns, model_runs
from kvsim.modes.variants import Layers
from kvsim.plan.mode import MODES
from kvsim.record.plain import plain
from kvsim.report.models_text import print_models
from kvsim.sim.executor import Executor
from kvsim.workload.words import word_of

SMALL = {
    "model": {"name": "llama-3.1-8b"},
    "engine": {"tensor_parallel_size": 1, "tune_colocated_budget": False},
    "cluster": {"simulate_racks": 1, "simulate_gpus_per_rack": 2, "network": {"gpus_per_host": 2}, "total_gpus": 8},
    "pd_experiments": {"num_requests": 24},
}
OTHER = {"model": {"name": "qwen3-30b-a3b"}, "engine": {"tensor_parallel_size": 2}}
OTHER |= {"cluster": {"simulate_gpus_per_rack": 4, "network": {"gpus_per_host": 4}}}


def models(*items: dict[str, Any], **common: Any) -> dict[str, Any]:
    return SMALL | common | {"models": list(items)}


def told(report: object) -> dict[str, Any]:
    """All of a report but how it went on this machine."""
    return {section: value for section, value in plain(report).items() if section != "run"}


def test_two_alike_are_two_runs_of_half_the_rate_at_seeds_of_their_own() -> None:
    both = kvsim.simulate_models(config=models({"name": "a", "share": 1}, {"name": "b", "share": 1}), rate=8)
    for name, found in both.models.items():
        alone = kvsim.simulate(config=SMALL | {"seed": seed_of(42, name)}, rate=4)
        assert told(found.report) == told(alone.report)
    assert told(both.models["a"].report)["results"] != told(both.models["b"].report)["results"]


def test_neither_the_order_of_items_nor_the_number_of_processes_changes_anything() -> None:
    items = [{"name": "a", "share": 3}, {"name": "b", "share": 1, "config": OTHER}, {"name": "c", "share": 0.1}]
    one = kvsim.simulate_models(config=models(*items), rate=8, systems=["unified"])
    two = kvsim.simulate_models(config=models(*items[::-1]), rate=8, systems=["unified"], jobs=2)
    assert {name: told(found.report) for name, found in one.models.items()} == {
        name: told(found.report) for name, found in two.models.items()
    }
    first, second = (dict(leaves(plain(found.cluster.results[0]))) for found in (one, two))
    assert first.pop("name") == second.pop("name") == "unified"
    assert first.pop("peak_gpus") is second.pop("peak_gpus") is None
    assert first == pytest.approx(second, rel=1e-12)


def asked(config: dict[str, Any], sets: tuple[str, ...] = (), **spec: Any) -> ModelRuns:
    """What each model is asked; nothing is run."""
    layers = Layers(config, sets=sets)
    several = layers.several()
    assert several is not None
    return model_runs(several, layers, ExperimentSpec(MODES["pd"], (), **spec), ["unified"])


def test_shares_are_of_the_rate_of_all_and_of_the_number_of_a_word() -> None:
    items = ({"name": "a", "share": 3}, {"name": "b", "share": 1})
    word = WordSource(word_of("in=100,out=5"), num_requests=80)
    found = asked(models(*items), trace=word, rate_per_s=20.0)
    assert [run.spec.rate_per_s for run in found.runs] == [15, 5]
    assert [run.spec.trace.num_requests for run in found.runs] == [60, 20]
    assert found.notes == ()


def test_a_qps_of_all_is_shared_but_for_those_with_one_of_their_own() -> None:
    items = [{"name": name, "share": share} for name, share in (("a", 3), ("b", 1), ("c", 9))]
    items[2]["config"] = {"pd_trace": {"qps": 2.5}}
    given = models(*items, pd_trace={"qps": 8})

    def qps(found: ModelRuns) -> list[float | None]:
        return [run.spec.variants[0].config.pd_trace.qps for run in found.runs]

    assert qps(asked(given)) == [6, 2, 2.5]
    assert qps(asked(given, sets=("pd_trace.qps=13",))) == [3, 1, 9]
    rates = [run.spec.rate_per_s for run in asked(given, rate_per_s=26.0).runs]
    assert rates == [6, 2, 18], "a rate that is asked for is of all, whatever qps somebody has"


def test_a_load_is_each_ones_own() -> None:
    items = ({"name": "a", "share": 3}, {"name": "b", "share": 1, "config": OTHER})
    found = asked(models(*items), load=0.3)
    assert [(run.spec.load, run.spec.rate_per_s) for run in found.runs] == [(0.3, None)] * 2
    (note,) = found.notes
    assert note.startswith("shares of models have no effect: each model runs at its own load or qps")
    assert asked(models({"name": "a"}), load=0.3).notes == ()


def test_users_are_of_one_model() -> None:
    word = WordSource(word_of("in=100,out=5"), concurrency=4)
    with pytest.raises(ConfigError, match=r"^concurrency is of one model's users: whom they ask next among several"):
        asked(models({"name": "a", "share": 1}), trace=word)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Requests of two models, and which are whose: those of ``y`` begin later."""
    path = tmp_path / "t.csv"
    rows = [f"{0.25 * i},{'y' if i > 40 and i % 3 else 'x'},{300 + 7 * i},{10 + i % 5}" for i in range(120)]
    path.write_text("\n".join(["arrival_time_s,model,prompt_tokens,output_tokens", *rows]) + "\n")
    return path


def test_a_trace_goes_to_the_models_that_its_requests_ask(trace: Path) -> None:
    given = models({"name": "x"}, {"name": "b", "trace_models": ["y"], "config": OTHER})
    found = kvsim.simulate_models("cluster", config=given, trace=trace, policy="baseline")
    whole = kvsim.load_workload(trace)
    rows = {"x": [i for i in range(120) if not (i > 40 and i % 3)], "b": [i for i in range(120) if i > 40 and i % 3]}
    for name, run in found.models.items():
        table = run.systems[0].table
        order = np.argsort(table["request_id"])
        assert table["arrival_s"][order].tolist() == [whole.arrival_s[row] for row in rows[name]]
        assert table["prompt_tokens"][order].tolist() == [whole.prompt_tokens[row] for row in rows[name]]
        assert run.workload.requests == len(rows[name])
        assert f"{len(rows[name])} of the trace's 120 requests are {name}'s: those that ask it" in run.workload.notes
    asked = json.loads(found.to_json())["models"]["b"]["workload"]["asked"]
    assert (asked["model"], asked["trace"]) == ("b", str(trace))


def test_a_part_is_served_as_it_would_be_alone(trace: Path, tmp_path: Path) -> None:
    given = models({"name": "x"}, {"name": "y"})
    found = kvsim.simulate_models("cluster", config=given, trace=trace, policy="baseline").models["x"]
    head, *rows = trace.read_text().splitlines()
    own = tmp_path / "own.csv"
    own.write_text("\n".join([head, *(row for row in rows if ",x," in row)]) + "\n")
    alone = kvsim.simulate("cluster", config=SMALL | {"seed": seed_of(42, "x")}, trace=own, policy="baseline")
    (one,), (other,) = found.systems, alone.systems
    assert {name: column.tolist() for name, column in one.table.items()} == {
        name: column.tolist() for name, column in other.table.items()
    }


def test_rates_of_unlike_times_are_said_to_be_that(trace: Path, tmp_path: Path) -> None:
    """One model's requests are over before the other's begin: 5 a second and 2 are never 7."""
    times = [*(0.2 * i for i in range(60)), *(500 + 0.5 * i for i in range(60))]
    rows = [f"{at},{'x' if at < 100 else 'y'},300,10" for at in times]
    apart = tmp_path / "apart.csv"
    apart.write_text("\n".join(["arrival_time_s,model,prompt_tokens,output_tokens", *rows]) + "\n")
    given = models({"name": "x"}, {"name": "y"})
    (note,) = kvsim.simulate_models("cluster", config=given, trace=apart, policy="baseline").cluster.notes
    assert note.startswith("models are measured at unlike times of the trace (x ") and ", y 5" in note
    mixed = tmp_path / "mixed.csv"
    rows = [f"{0.2 * i},{'xy'[i % 2]},300,10" for i in range(120)]
    mixed.write_text("\n".join(["arrival_time_s,model,prompt_tokens,output_tokens", *rows]) + "\n")
    assert kvsim.simulate_models("cluster", config=given, trace=mixed, policy="baseline").cluster.notes == ()


def test_one_model_alone_needs_no_share(tmp_path: Path) -> None:
    unnamed = tmp_path / "unnamed.csv"
    unnamed.write_text("arrival_time_s,prompt_tokens,output_tokens\n" + "".join(f"{i},300,10\n" for i in range(20)))
    for asked_of_all in ({"trace": unnamed}, {"rate": 4}):
        found = kvsim.simulate_models("cluster", config=models({"name": "x"}), policy="baseline", **asked_of_all)
        assert list(found.models) == ["x"]


def test_shares_of_any_unit() -> None:
    """Their sum alone would be no number."""
    items = ({"name": "a", "share": 1.5e308}, {"name": "b", "share": 0.5e308})
    found = asked(models(*items), rate_per_s=20.0)
    assert [run.spec.rate_per_s for run in found.runs] == [pytest.approx(15), pytest.approx(5)]


def test_a_rate_is_of_the_whole_trace(trace: Path) -> None:
    given = models({"name": "x"}, {"name": "y"})
    found = kvsim.simulate_models("cluster", config=given, trace=trace, rate=8, policy="baseline")
    arrivals = [run.systems[0].table["arrival_s"] for run in found.models.values()]
    assert [len(own) / 3 for own in arrivals] == [67, 53]
    assert (3 * 120 - 1) / np.concatenate(arrivals).max() == pytest.approx(8)


def test_the_whole_is_the_sum_of_its_parts() -> None:
    items = ({"name": "a", "share": 3}, {"name": "b", "share": 1, "config": OTHER})
    found = kvsim.simulate_models(config=models(*items), rate=8)
    assert [whole.name for whole in found.cluster.results] == ["unified", "pd"]
    for place, whole in enumerate(found.cluster.results):
        parts = [run.results[place] for run in found.models.values()]
        hours = [(part.window_s.end - part.window_s.start) / 3600 for part in parts]
        assert whole.gpus == sum(run.report.cluster.gpus for run in found.models.values()) == 2 + 4
        assert whole.gpu_hours == pytest.approx(sum(gpus * length for gpus, length in zip((2, 4), hours, strict=True)))
        assert whole.usd == pytest.approx(sum(part.cost.usd for part in parts))
        assert whole.kwh == pytest.approx(sum(part.cost.energy.kwh for part in parts))
        assert whole.requests == sum(part.requests.completed_in_window for part in parts)
        tokens = [part.throughput.output_tokens_per_s * 3600 for part in parts]
        assert whole.output_tokens_per_s * 3600 == pytest.approx(sum(tokens))
        by_hour = sum(part.cost.usd / length for part, length in zip(parts, hours, strict=True))
        assert whole.usd_per_hour == pytest.approx(by_hour)
        assert whole.usd_per_million_output_tokens == pytest.approx(by_hour / sum(tokens) * 1e6)
        joules = sum(part.cost.energy.kwh * 3.6e6 / length for part, length in zip(parts, hours, strict=True))
        assert whole.joules_per_output_token == pytest.approx(joules / sum(tokens))


def test_an_interrupt_leaves_the_models_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[ExperimentSpec] = []

    def interrupted(spec: ExperimentSpec, executor: Executor) -> Experiment:
        ran.append(spec)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run_experiment(spec, executor)

    monkeypatch.setattr(kvsim.modes.models, "run_experiment", interrupted)
    items = [{"name": name, "share": 1} for name in "abc"]
    found = kvsim.simulate_models(config=models(*items), rate=8, systems=["unified"])
    assert list(found.models) == ["a"] and len(ran) == 2
    assert (found.cluster.status, found.cluster.results) == ("incomplete", ())
    console = Console(width=80, file=StringIO())
    print_models(console, found.report)
    said = " ".join(console.file.getvalue().split())
    assert "warning: interrupted: what there is is of a; of the whole cluster there is no result" in said
    assert " in all " not in said.partition("warning")[0]
    ran.clear()
    ran.append(ran)
    with pytest.raises(KeyboardInterrupt):
        kvsim.simulate_models(config=models(*items), rate=8, systems=["unified"])


WRONG = {
    "no share": (
        {"config": models({"name": "a", "share": 1}, {"name": "b"}), "rate": 4},
        "models: 'b' has no share; the rate is dealt by shares",
    ),
    "no share of qps": (
        {"config": models({"name": "a"}, {"name": "b"}, pd_trace={"qps": 4})},
        "models: 'a' has no share; pd_trace.qps is dealt by shares",
    ),
    "no share of requests": (
        {"config": models({"name": "a"}, {"name": "b"}), "workload": "chat", "requests": 4},
        "models: 'a' has no share; the number of requests is dealt by shares",
    ),
    "GPUs": (
        {"config": models({"name": "a"}, {"name": "b", "config": {"cluster": {"simulate_racks": 4}}}), "load": 0.5},
        "models take 10 GPUs together (a 2, b 8), and cluster.total_gpus is 8; cluster.simulate_racks in the config of "
        "an item says how many racks it has",
    ),
    "memory": (
        {"config": models({"name": "a", "config": {"model": {"name": "llama-3.1-70b"}}}), "load": 0.5},
        "model a: ",
    ),
    "rate": ({"config": models({"name": "a", "share": 1}), "rate": 1e12}, "--rate: 1e+12 requests/s; allowed: 1e-09 "),
    "none": ({"config": SMALL}, "config has no models; kvsim.simulate runs one"),
    "mode": ({"what": "predict", "config": SMALL}, "mode is 'predict'; known: cluster, pd, single"),
    "policy": (
        {"what": "cluster", "config": models({"name": "a"}), "policy": "lrv"},
        "model a: --policy: unknown policy 'lrv'; did you mean 'lru'?",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_it_is_one_line(case: str) -> None:
    given, words = dict(WRONG[case][0]), WRONG[case][1]
    with pytest.raises(KvsimError) as error:
        kvsim.simulate_models(given.pop("what", "pd"), **given)
    said = str(error.value)
    assert said.startswith(words) and "\n" not in said


def test_a_trace_that_names_others(trace: Path) -> None:
    with pytest.raises(WorkloadError) as error:
        kvsim.simulate_models("cluster", config=models({"name": "x"}), trace=trace)
    assert str(error.value).endswith(
        "t.csv: 53 of 120 requests are of no item of models: 'y' (53); trace_models of an item has the trace's names, "
        "'*' all others"
    )


def test_who_runs_one_model_says_so(trace: Path) -> None:
    with pytest.raises(ConfigError, match="nothing else does, in Python simulate_models"):
        kvsim.simulate(config=models({"name": "a"}))
