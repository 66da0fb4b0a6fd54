"""Where SGLang's scheduler is simulated, and what is said where it is not."""

from __future__ import annotations

import pytest
from builders import Row, served, workload

from kvsim.config import load_config
from kvsim.plan.engine_settings import SglangSettings
from kvsim.plan.instance import instance_of
from kvsim.plan.plan import make_plan, unified_plan
from kvsim.plan.sglang_scheduler import left_to_vllm
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sglang import SglangScheduler
from kvsim.sim.systems.unified import UnifiedSystem

ASKED = ("engine.scheduler=sglang", "cache.prefix_cache=radix")
MIXED = "engine.sglang.enable_mixed_chunk=true"


def test_what_is_asked_of_it_is_configured() -> None:
    own = ("enable_mixed_chunk=true", "max_prefill_tokens=512", "schedule_conservativeness=0.3", "ignore_eos=false")
    config = load_config(sets=[*ASKED, *(f"engine.sglang.{each}" for each in own)]).config
    assert instance_of(config).settings.sglang == SglangSettings(True, 512, 0.3, False)
    for role in ("prefill", "decode"):
        assert instance_of(config, role).settings.sglang is None
    assert instance_of(load_config(sets=["cache.prefix_cache=radix"]).config).settings.sglang is None
    assert left_to_vllm(config, (), is_pd=False) == []
    (sentence,) = left_to_vllm(config, (), is_pd=True)
    assert sentence == "engine.scheduler = sglang holds for unified instances; PD's schedule by vLLM's rules"


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (("cache.prefix_cache=paged",), "cache.prefix_cache: paged"),
        (("engine.scheduling_policy=priority",), "engine.scheduling_policy: priority"),
        (("engine.speculative.method=eagle",), "engine.speculative.method: eagle"),
        (("engine.enable_lora=true",), "engine.enable_lora"),
        (("engine.batching=static",), "engine.batching: static"),
    ],
)
def test_what_stands_in_its_way_is_said(changed: tuple[str, ...], name: str) -> None:
    config = load_config(sets=[*ASKED, *changed]).config
    assert instance_of(config).settings.sglang is None
    (sentence,) = left_to_vllm(config, (), is_pd=False)
    assert sentence.startswith(f"engine.scheduler = sglang is not modelled beside {name}: vLLM's rules hold")


def test_maximum_rates_are_not_of_prompts_alone() -> None:
    (sentence,) = left_to_vllm(load_config(sets=ASKED).config, (), is_pd=False)
    assert "maximum rates are reckoned as if prompts and answers shared steps" in sentence


def test_its_own_order_needs_it() -> None:
    lof = "engine.scheduling_policy=lof"
    assert left_to_vllm(load_config(sets=[*ASKED, MIXED, lof]).config, (), is_pd=False) == []
    alone = left_to_vllm(load_config(sets=[lof]).config, (), is_pd=False)
    beside = left_to_vllm(load_config(sets=[*ASKED, lof]).config, ("dram",), is_pd=False)
    assert (
        alone
        == beside[1:]
        == ["engine.scheduling_policy = lof is of SGLang's scheduler alone: requests are served in order"]
    )
    assert "beside memory below the GPUs" in beside[0]


def test_engines_have_the_scheduler_that_the_plan_says() -> None:
    config = load_config(sets=ASKED).config
    assert make_plan(config).colocated_settings.sglang is not None
    for sets, kind in ((ASKED, SglangScheduler), ((), Scheduler)):
        plan = unified_plan(load_config(sets=sets).config, 1)
        system = served(UnifiedSystem, plan, workload([Row(0.0, 100, 3)]), 1)
        assert type(system.prefill_engines[0].scheduler) is kind
        assert system.counts.completed == 1


def test_what_never_fits_is_refused_and_what_just_fits_is_served() -> None:
    """A page is kept free, and the pool must have more than all that the request and two pages take."""
    sets = (*ASKED, "engine.block_size=4", "engine.num_gpu_blocks_override=26", "engine.max_num_seqs=4")
    plan = unified_plan(load_config(sets=sets).config, 1)
    assert plan.colocated_settings.num_blocks == 25
    system = served(UnifiedSystem, plan, workload([Row(0.0, 60, 31), Row(0.0, 60, 32)]), 1)
    assert (system.counts.completed, system.counts.failed) == (1, 1)
