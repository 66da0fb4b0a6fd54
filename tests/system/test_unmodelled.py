"""What no engine does and a configuration asks for is said in the report."""

from __future__ import annotations

import pytest
from test_experiment import Bar

from kvsim.config import load_config
from kvsim.system.experiment import run_pd
from kvsim.system.tiered.experiment import Variant, run_tiered
from kvsim.system.tiered.modes import Mode
from kvsim.system.unmodelled import unmodelled

SHARING = (
    "model.name=qwen3-30b-a3b",
    "engine.tensor_parallel_size=1",
    "engine.data_parallel_size=2",
    "engine.enable_expert_parallel=true",
)
ASKED = {"trace": None, "load": None, "replicas": None, "stepwise": False, "progress": Bar}
FEW = ("pd_experiments.num_requests=30", "experiments.num_requests=30", "engine.tune_colocated_budget=false")


def test_engines_that_share_experts_do_not_step_together() -> None:
    (sentence,) = unmodelled(load_config(sets=SHARING).config)
    assert sentence.startswith("engine.enable_expert_parallel with engine.data_parallel_size = 2: engines that share")


@pytest.mark.parametrize(
    "change", ["model.name=llama-3.1-8b", "engine.data_parallel_size=1", "engine.enable_expert_parallel=false"]
)
def test_of_others_nothing_is_said(change: str) -> None:
    assert unmodelled(load_config(sets=(*SHARING, change)).config) == []


def test_every_kind_of_run_says_so() -> None:
    config = load_config(preset="smoke", sets=(*SHARING, *FEW)).config
    runs = (
        run_pd(config, load_of=None, **ASKED),
        run_tiered(Mode("single"), [Variant("lru", config)], **ASKED),
    )
    for experiment in runs:
        assert set(unmodelled(config)) <= set(experiment.warnings)
