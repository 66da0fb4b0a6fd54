"""What a pipeline of stages is refused beside, in one line that says where and what is allowed."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.config.checks import Mode
from kvsim.errors import ConfigError

STAGES = "engine.pipeline_parallel_size=2"
ALONE = ("cache.tiers=[]",)


@pytest.mark.parametrize(
    ("mode", "sets", "words"),
    [
        ("pd", (), "beside prefill/decode separation it is not modelled; allowed: 1"),
        ("predict", ("pd_separation.tiers=[dram]",), "beside pd_separation.tiers = [dram] it is not modelled"),
        ("single", ("cache.tiers=[dram,ssd]",), "cache.tiers must be []"),
        (
            "single",
            (
                *ALONE,
                "engine.speculative.method=eagle3",
            ),
            "engine.speculative.method must be null",
        ),
        (
            "single",
            (
                *ALONE,
                "cache.prefix_cache=radix",
            ),
            "cache.prefix_cache must be paged",
        ),
        (
            "single",
            (
                *ALONE,
                "engine.scheduling_policy=lpm",
            ),
            "engine.scheduling_policy must be fcfs or priority",
        ),
        (
            "single",
            (
                *ALONE,
                "engine.batching=static",
            ),
            "engine.batching must be continuous",
        ),
        (
            "single",
            (
                *ALONE,
                "engine.enable_lora=true",
            ),
            "engine.enable_lora must be false",
        ),
        ("single", (*ALONE, "model.name=qwen3-30b-a3b", "engine.data_parallel_size=2"), "either must be 1"),
        ("single", ("engine.pipeline_layers=[80]",), "must have a number for each of the"),
        ("single", ("engine.pipeline_layers=[0,80]",), "engine.pipeline_layers"),
        ("single", ("engine.pipeline_parallel_size=0",), "engine.pipeline_parallel_size"),
        ("cluster", ("cluster.simulate_gpus_per_rack=12", "cluster.gpus_per_rack=12"), "which makes 8 GPUs"),
    ],
)
def test_it_is_refused_in_one_line(mode: Mode, sets: tuple[str, ...], words: str) -> None:
    own = ("cluster.tiers=[]", "engine.tensor_parallel_size=4", STAGES)
    with pytest.raises(ConfigError) as refused:
        load_config(sets=(*own, *sets), mode=mode)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_layers_of_stages_need_stages() -> None:
    with pytest.raises(ConfigError, match=r"engine\.pipeline_layers = \[40, 40\]: must have a number for each of the"):
        load_config(sets=("engine.pipeline_layers=[40,40]",), mode="single")


def test_independent_engines_may_be_pipelines() -> None:
    """Dense models, and mixtures of experts of which each engine has all."""
    for sets in (("engine.data_parallel_size=2",), ("model.name=qwen3-30b-a3b", "engine.share_experts=false")):
        assert load_config(sets=(STAGES, *ALONE, *sets), mode="single").config.engine.pipeline_parallel_size == 2
