"""Runs that nobody gave a P:D ratio stand at the balanced one, and are those that are given it."""

from __future__ import annotations

import pytest

import kvsim
from kvsim.config import load_config
from kvsim.modes.variants import Layers
from kvsim.plan.deployment import launch_of, server_keys
from kvsim.plan.mode import CLUSTER, PD
from kvsim.plan.plan import make_plan

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 16384"
QUICK = {"engine.tune_colocated_budget": False, "load.pilot_requests": 300, "pd_experiments.num_requests": 400}
RATIO = "pd_separation.pd_ratio"


def run(**asked: object) -> kvsim.Simulation:
    sets = {**QUICK, **asked.pop("sets", {})}  # type: ignore[dict-item]
    return kvsim.simulate("pd", engine=LINE, gpus=16, systems=["pd"], sets=sets, **asked)  # type: ignore[arg-type]


def test_a_run_at_the_balanced_ratio_is_the_one_that_is_given_it() -> None:
    found = run()
    counts = found.cluster.prefill_instances, found.cluster.decode_instances  # type: ignore[attr-defined]
    assert counts != (4, 12) and sum(counts) == 16 and found.config.pd_separation.pd_ratio == counts
    told = f"P:D {counts[0]}:{counts[1]} is taken, the balanced ratio"
    assert next(note for note in found.workload.notes if "balanced" in note).startswith(told)
    given = run(sets={RATIO: list(counts)})
    assert given.summary.equals(found.summary)
    assert set(found.workload.notes) - set(given.workload.notes) == {found.workload.notes[1]}
    again = kvsim.simulate("pd", config=found.config, systems=["pd"])
    assert again.summary.equals(found.summary)


def test_a_given_ratio_stays() -> None:
    found = run(sets={RATIO: [1, 7]})
    assert (found.cluster.prefill_instances, found.cluster.decode_instances) == (2, 14)  # type: ignore[attr-defined]
    assert not any("balanced" in note for note in found.workload.notes)


def test_at_a_rate_too() -> None:
    found = run(workload="in=4000,out=20", rate=20, requests=200)
    assert found.cluster.prefill_instances > found.cluster.decode_instances  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("layers", "systems", "expected"),
    [
        ({"engine": LINE}, ("unified", "pd"), True),
        ({"gpus": 16}, ("pd",), True),
        ({"engine": LINE}, ("unified",), False),
        ({"gpu": "h200"}, ("pd",), False),
        ({}, ("pd",), False),
        ({"engine": LINE, "sets": (f"{RATIO}=[1, 3]",)}, ("pd",), False),
        ({"engine": LINE, "config": {"pd_separation": {"pd_ratio": [1, 3]}}}, ("pd",), False),
        ({"engine": LINE, "preset": "smoke"}, ("pd",), True),
    ],
    ids=str,
)
def test_who_says_neither_ratio_nor_server_keeps_the_configured_one(
    layers: dict[str, object], systems: tuple[str, ...], expected: bool
) -> None:
    line = layers.pop("engine", None)
    launch = None if line is None else launch_of(str(line), None)
    keys = server_keys("pd", launch, gpu=layers.pop("gpu", None), gpus=layers.pop("gpus", None))  # type: ignore[arg-type]
    asked = Layers(engine=keys, **layers)  # type: ignore[arg-type]
    assert asked.balances(PD, asked.load("pd"), systems) == expected
    assert not asked.balances(CLUSTER, asked.load("pd"), systems)


def test_a_plan_at_a_ratio_is_the_one_that_its_configuration_makes() -> None:
    """With degrees that leave GPUs over, too: 7 of 63 for decode instances of 8."""
    sets = ["pd_separation.decode_tensor_parallel_size=8", "engine.tensor_parallel_size=1", "model.name=llama-3.1-8b"]
    plan = make_plan(load_config(preset="smoke", sets=[*sets, "model.max_model_len=8192"], mode="pd").config)
    for prefill in range(1, plan.most_prefill + 1):
        at = plan.at_ratio((prefill, plan.decode_beside(prefill)))
        again = make_plan(at.config)
        assert (at.num_prefill, at.num_decode) == (again.num_prefill, again.num_decode)
