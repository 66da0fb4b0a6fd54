"""Stages by configuration and by launch line: GPUs, layers, times, memory, arithmetic, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, by_request, served, workload

from kvsim.capacity.demand import Demand, SharedPrompts
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.config import Config, derived, load_config
from kvsim.errors import ConfigError
from kvsim.launch import read_launch_line
from kvsim.plan.deployment import load_deployment, server_keys
from kvsim.plan.explained import explainer_of
from kvsim.plan.instance import instance_of
from kvsim.plan.plan import make_plan, unified_plan
from kvsim.plan.unmodelled import left_out
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.curves.pipeline import PipelineStepTime

LLAMA = "vllm serve meta-llama/Llama-3.1-8B-Instruct"


def configured(line: str, *sets: str) -> Config:
    return load_deployment(read_launch_line(line), gpu="h100-sxm", sets=sets).config


def test_a_line_brings_the_gpus_of_all_stages() -> None:
    config = configured(f"{LLAMA} -tp 2 --pipeline-parallel-size 4")
    plan = unified_plan(config, 1)
    assert (plan.num_gpus, plan.colocated.degree, plan.spec.pipeline_layers) == (8, 8, (8, 8, 8, 8))
    assert config.cluster.total_gpus == 8
    settings = plan.colocated_settings
    assert (settings.pipeline_parallel, settings.batch_queue_size) == (4, 5)
    assert replace(settings, async_scheduling=False).batch_queue_size == 4
    assert plan.colocated.nic_bytes_per_s == pytest.approx(
        8 * unified_plan(configured(LLAMA), 1).colocated.nic_bytes_per_s
    )


def test_gpus_of_a_cluster_are_whole_instances() -> None:
    keys = server_keys("cluster", read_launch_line(f"{LLAMA} -tp 2 -pp 2"), gpu="h100", gpus=8)
    assert keys is not None
    assert keys.values["cluster.simulate_gpus_per_rack"] == 8
    with pytest.raises(ConfigError, match="a multiple of the 4 GPUs of an instance"):
        server_keys("cluster", read_launch_line(f"{LLAMA} -tp 2 -pp 2"), gpu="h100", gpus=6)


def test_one_gpu_has_no_room_for_two_stages() -> None:
    alone = [f"cluster.{key}=1" for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack")]
    config = configured(LLAMA, "engine.pipeline_parallel_size=2", *alone)
    with pytest.raises(ConfigError, match=r"fewer than the 2 of an instance \(2 stages of 1 x h100-sxm\)"):
        derived.instances(config)


def test_layers_may_be_given() -> None:
    assert instance_of(configured(f"{LLAMA} -pp 2", "engine.pipeline_layers=[20,12]")).spec.pipeline_layers == (20, 12)
    with pytest.raises(ConfigError, match=r"are 33 layers: must be the 32 of llama-3\.1-8b"):
        instance_of(configured(f"{LLAMA} -pp 2", "engine.pipeline_layers=[20,13]"))
    with pytest.raises(ConfigError, match="must be at most the 32 layers"):
        instance_of(configured(f"{LLAMA} -pp 33"))


@pytest.mark.parametrize(("version", "is_async"), [("0.32.0", True), ("0.15.0", True), ("0.14.0", False)])
def test_whether_a_pipeline_schedules_ahead_is_by_version(version: str, is_async: bool) -> None:
    config = configured(f"{LLAMA} -pp 2", f"engine.vllm_version={version}")
    assert config.engine.async_scheduling == is_async
    assert not configured(f"{LLAMA} -pp 2 --no-async-scheduling").engine.async_scheduling


def test_windows_are_refused_where_blocks_have_groups() -> None:
    line = "vllm serve openai/gpt-oss-20b -pp 2"
    with pytest.raises(ConfigError, match=r"engine\.disable_hybrid_kv_cache_manager = true has them keep it"):
        instance_of(configured(line))
    assert instance_of(configured(f"{line} --disable-hybrid-kv-cache-manager")).spec.pipeline_parallel == 2


@pytest.mark.parametrize("method", ["auto", "roofline"])
def test_a_step_alone_takes_that_of_all_layers_and_the_sends(method: str) -> None:
    sets = (f"steptime.method={method}",)
    explainer = explainer_of(load_deployment(read_launch_line(f"{LLAMA} -pp 2"), gpu="h100-sxm", sets=sets))
    whole = instance_of(configured(LLAMA, f"steptime.method={method}")).step_time
    times = explainer.instance.step_time
    assert isinstance(times, PipelineStepTime)
    for batch in (Batch((Decodes(1, 1000),)), Batch((Decodes(64, 500),), (PromptChunk(512),))):
        passed = explainer.passed(batch)
        assert passed is not None
        own_s = batch.seconds(whole)
        assert passed.alone_s == pytest.approx(batch.seconds(times), rel=1e-12)
        assert sum(passed.stages_s) == pytest.approx(own_s, rel=0.02)
        assert passed.every_s == pytest.approx(own_s / 2, rel=0.15)
        assert explainer.explain(batch).time_s == pytest.approx(own_s)


def test_it_is_said_that_stages_are_modelled() -> None:
    plan = unified_plan(configured(f"{LLAMA} -pp 2"), 1)
    assert plan.colocated.nearest is not None
    assert plan.colocated.nearest.level == "scaled"
    assert "split into stages of 16 + 16 by arithmetic" in str(plan.colocated.nearest.warning)
    (said,) = (sentence for sentence in left_out(plan) if "pipeline_parallel_size" in sentence)
    assert "times of stages of 16 + 16 layers are modelled" in said
    older = unified_plan(configured(f"{LLAMA} -pp 2", "engine.vllm_version=0.20.0"), 1)
    assert any("vLLM 0.20.0 is taken to schedule them as 0.32 does" in sentence for sentence in left_out(older))


def test_nothing_that_is_not_modelled_is_built() -> None:
    config = load_config(sets=("engine.pipeline_parallel_size=2",)).config
    with pytest.raises(ConfigError, match="beside prefill/decode separation"):
        make_plan(config)
    with pytest.raises(ConfigError, match="beside tiers"):
        unified_plan(config, 1, ("dram",))


@pytest.mark.parametrize("answers", [1, 40])
def test_the_maximum_rate_is_that_of_a_full_pipeline(answers: int) -> None:
    """1,000 requests at once, on two stages, half of which end in the midst of it; by arithmetic every batch is as
    large as the others."""
    line = f"{LLAMA} -pp 2 --max-num-seqs 64 --max-num-batched-tokens 1024"
    plan = unified_plan(configured(line, "load.warm_caches=false"), 1)
    table = by_request(served(UnifiedSystem, plan, workload([Row(0.0, 700, answers)] * 1000)))
    early_s, late_s = np.sort(table["finish_s"])[[250, 750]]
    prompts, outputs = np.full(400, 700.0), np.full(400, float(answers))
    demand = Demand(prompts, outputs, np.zeros(400), prompts, 0.0, SharedPrompts(np.zeros(0), np.zeros(0), 700.0))
    assert maximum_rate(plan, demand, "unified") == pytest.approx(500 / (late_s - early_s), rel=0.1)
