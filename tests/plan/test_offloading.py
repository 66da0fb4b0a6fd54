"""``--kv-offloading-size`` becomes a tier of every engine, which gives hits back where the GPU's blocks are few."""

from __future__ import annotations

import pytest
from builders import Row, by_request, served, workload

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.modes.variants import Layers
from kvsim.plan.deployment import launch_of, load_deployment, server_keys
from kvsim.plan.instance import load_instance, spec_of
from kvsim.plan.mode import MODES, PREDICT, ModeName
from kvsim.plan.offloading import offloading_keys
from kvsim.plan.plan import unified_plan
from kvsim.sim.systems.unified import UnifiedSystem

LINE = "vllm serve meta-llama/Llama-3.1-8B --max-model-len 4096"
KEYS = {"single": "cache.tiers", "cluster": "cluster.tiers", "pd": "pd_separation.tiers"}
BLOCK_BYTES = 16 * 131_072


@pytest.mark.parametrize("mode", KEYS)
def test_every_mode_has_the_tier_where_it_looks_for_it(mode: ModeName) -> None:
    given = server_keys(mode, launch_of(f"{LINE} --kv-offloading-size 2", None), gpus=8)
    config = Layers(engine=given).load(mode).config
    assert MODES[mode].plan(config).tiers == ("dram",)
    assert given is not None
    assert {key for key in given.values if key.endswith(".tiers")} == {KEYS[mode]}
    assert config.hardware.dram.capacity_gb == pytest.approx(2.147483648, rel=1e-12)


def test_without_the_size_nothing_is_said_of_tiers() -> None:
    assert offloading_keys(Fields("", {"kv_offloading_backend": "native"}), {}, "cache.tiers") == {}
    given = server_keys("pd", launch_of(LINE, None))
    assert given is not None
    assert not [key for key in given.values if key.startswith(("cache.chunk", "hardware.dram", "pd_separation.tiers"))]


@pytest.mark.parametrize("size", ["0", "-1", "nan", "1e9"])
def test_a_size_that_vllm_refuses(size: str) -> None:
    with pytest.raises(ConfigError, match="kv_offloading_size"):
        load_deployment(launch_of(f"{LINE} --kv-offloading-size={size}", None))


def test_chunks_are_blocks_and_assignments_come_last() -> None:
    launch = launch_of(f"{LINE} --kv-offloading-size 1 --block-size 32", None)
    assert load_deployment(launch).config.cache.chunk_tokens == 32
    assert load_deployment(launch, sets=["cache.write_generated=true"]).config.cache.write_generated


@pytest.mark.parametrize(("model", "copies"), [("Qwen/Qwen3-32B", 1), ("deepseek-ai/DeepSeek-R1", 8)])
def test_of_a_latent_host_memory_has_one_copy(model: str, copies: int) -> None:
    launch = launch_of(f"vllm serve {model} -tp 8 --kv-offloading-size 100", None)
    config = load_deployment(launch, gpu="h200").config
    assert config.hardware.dram.capacity_gb == pytest.approx(107.3741824 * copies, rel=1e-12)


def _system(blocks: int, offloading: str, instances: int = 1) -> UnifiedSystem:
    """Six prompts of 1,024 tokens, two rounds, each of the second alone."""
    launch = launch_of(f"{LINE} --num-gpu-blocks-override {blocks} {offloading}", None)
    sets = ["load.warm_caches=false", "routing.prefill=round_robin"]
    plan = PREDICT.plan(load_deployment(launch, gpu="h100", sets=sets, instances=instances).config)
    rows = [Row(i * 1.0, pieces=((i % 6, 1024), (-1 - i, 100)), output_tokens=2) for i in range(12)]
    return served(UnifiedSystem, plan, workload(rows))


def test_few_blocks_on_the_gpu_and_offloading_hit_all_that_returns() -> None:
    off, on = (_system(280, flags) for flags in ("", "--kv-offloading-size 1"))
    without, with_it = by_request(off), by_request(on)
    assert list(without["hit_tokens"]) == [0] * 12
    assert list(with_it["loaded_tokens"]) == [0] * 6 + [1024] * 6
    load_s = 1e-4 + 64 * BLOCK_BYTES / 55e9
    assert with_it["tier_load_s"][6:] == pytest.approx([load_s] * 6, rel=1e-9)
    ttft_s = [table["first_token_s"] - table["arrival_s"] for table in (without, with_it)]
    assert all(ttft_s[1][6:] < ttft_s[0][6:])
    assert list(ttft_s[1][:6]) == list(ttft_s[0][:6])


def test_without_evictions_offloading_changes_no_time() -> None:
    off, on = (by_request(_system(2_000, flags)) for flags in ("", "--kv-offloading-size 1"))
    assert list(off["hit_tokens"]) == [0] * 6 + [1024] * 6
    for column in ("first_token_s", "finish_s", "hit_tokens"):
        assert list(off[column]) == list(on[column]), column
    assert not on["loaded_tokens"].any()


def test_the_size_is_an_engines_own() -> None:
    """A prompt's worth each: nobody sees what the other one has, on the same host; and what does not fit at once is
    not written at all.
    """
    for blocks, held in ((70, 70), (69, 0)):
        system = _system(280, f"--kv-offloading-size {blocks * BLOCK_BYTES / 2**30}", instances=2)
        assert system.tiers is not None
        hierarchy = system.tiers.hierarchy
        hierarchy.settle()
        assert [tier.capacity_chunks for tier in hierarchy.tiers["dram"]] == [blocks, blocks]
        assert [len(tier) for tier in hierarchy.tiers["dram"]] == [held, held]
    assert hierarchy.connectors[0].views[0].tier is not hierarchy.connectors[1].views[0].tier


@pytest.mark.parametrize(("version", "settled"), [("0.15.1", False), ("0.21.0", False), ("0.22.0", True), ("", True)])
def test_older_versions_write_answers_and_have_no_groups_of_layers(version: str, settled: bool) -> None:
    arguments = Fields("", {"kv_offloading_size": 8})
    config = load_instance("openai/gpt-oss-20b", arguments, vllm_version=version).config
    assert config.cache.write_generated is not settled
    assert (spec_of(config).kv_groups is not None) is settled
    assert unified_plan(config, 1, config.pd_separation.tiers).colocated_settings.kv_groups == ()


@pytest.mark.parametrize(("version", "is_settled"), [("0.21.0", False), ("'0.15.0'", False), ("0.22.0", True)])
def test_an_assigned_version_decides_as_a_given_one(version: str, is_settled: bool) -> None:
    arguments = Fields("line", {"kv_offloading_size": 8, "max_model_len": 8192})
    config = load_instance("gemma-3-27b", arguments, sets=[f"engine.vllm_version={version}"]).config
    assert config.engine.disable_hybrid_kv_cache_manager == (None if is_settled else True)
    assert config.cache.write_generated != is_settled
