"""What a run leaves out of what it was asked for is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from experiments import run_pd, run_tiered

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.mode import SINGLE
from kvsim.plan.plan import Plan, make_plan, unified_plan
from kvsim.plan.refused import unlike_servers
from kvsim.plan.unmodelled import left_out, unmodelled
from kvsim.sim.network.build_network import host_link_bytes_per_s

SHARING = (
    "model.name=qwen3-30b-a3b",
    "engine.tensor_parallel_size=1",
    "engine.data_parallel_size=2",
    "engine.enable_expert_parallel=true",
    "model.max_model_len=40960",
)
FEW = ("pd_experiments.num_requests=30", "experiments.num_requests=30", "engine.tune_colocated_budget=false")


def planned(*sets: str) -> Plan:
    return make_plan(load_config(preset="smoke", sets=sets).config)


def test_nothing_of_the_defaults_is_left_out() -> None:
    assert left_out(planned(), is_pd=True) == ()


def test_beside_tiers_windows_do_not_free_what_lies_before_them() -> None:
    assert left_out(planned("model.name=gpt-oss-20b", "model.max_model_len=8192")) == ()
    tiers = "pd_separation.tiers=[dram]"
    (said,) = left_out(planned("model.name=gpt-oss-20b", "model.max_model_len=8192", tiers))
    assert said.startswith("gpt-oss-20b: in 12 of 24 layers a token looks back 128 tokens; step times count that; ")
    # 24 x 8,192 tokens of a layer are sent; 12 x 8,192 + 12 x 128 would be.
    assert said.endswith(f"keep every token in all layers, {24 * 8192 / (12 * 8192 + 12 * 128):.2f} times as much")
    assert left_out(planned("model.name=gpt-oss-20b", "model.max_model_len=128", tiers)) == ()
    (said,) = left_out(planned("model.name=gpt-oss-20b", "cache.prefix_cache=radix"))
    assert "; beside a radix tree the KV cache is as large as engines have it" in said
    off = "engine.disable_hybrid_kv_cache_manager=true"
    assert left_out(planned("model.name=gpt-oss-20b", "model.max_model_len=8192", tiers, off)) == ()


@pytest.mark.parametrize(
    ("method", "connector", "said"),
    [("eagle3", "offloading", True), ("eagle3", "general", False), ("ngram", "offloading", False)],
)
def test_beside_offloading_some_drafters_need_the_last_chunk(method: str, connector: str, said: bool) -> None:
    sets = ("pd_separation.tiers=[dram]", f"cache.connector={connector}", f"engine.speculative.method={method}")
    found = left_out(planned(*sets, "engine.speculative.num_speculative_tokens=3"))
    assert any("the last chunk again" in sentence for sentence in found) is said


def test_the_type_that_a_config_stores_is_not_the_one_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    shapes = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8}
    values = {**shapes, **heads, "vocab_size": 32000, "quantization_config": {"quant_method": "fp8"}}
    path.write_text(json.dumps(values), encoding="utf-8")
    (said,) = left_out(planned(f"model.name={path}"))
    assert said == "config.json: its weights are stored as fp8; model.weight_dtype = bf16 is what was simulated"
    assert left_out(planned(f"model.name={path}", "model.weight_dtype=fp8")) == ()


def test_a_model_that_sees_is_its_text_part() -> None:
    others = ("engine.tensor_parallel_size=1", "model.max_model_len=40960")
    (said,) = left_out(planned("model.name=Qwen/Qwen3-VL-8B-Instruct", *others))
    assert said == "qwen3-8b: its text part; its vision tower counts as memory, not as work"
    assert left_out(planned("model.name=qwen3-8b", *others)) == ()


def test_a_checkpoints_type_is_not_the_one_that_counts() -> None:
    length = "model.max_model_len=40960"
    (said,) = left_out(planned("model.name=Qwen/Qwen3-32B-FP8", length))
    assert said == "Qwen3-32B-FP8: its weights are stored as fp8; model.weight_dtype = bf16 is what was simulated"
    assert left_out(planned("model.name=Qwen/Qwen3-32B-FP8", "model.weight_dtype=fp8", length)) == ()


def test_static_batching_is_of_unified_instances() -> None:
    static = planned("engine.batching=static")
    assert left_out(static) == ()
    (said,) = left_out(static, is_pd=True)
    assert "PD's decode instances let requests join at any step" in said
    assert static.decode_settings.batching == "continuous"


@pytest.mark.parametrize(
    ("sets", "gb_per_s"),
    [
        ((), 450),
        (("hardware.gpu=l40s", "engine.tensor_parallel_size=8"), 32),
        (("hardware.gpu=b200",), 900),
        (("cluster.network.nvlink_gb_per_s=600",), 300),
    ],
    ids=["h100", "l40s", "b200", "given"],
)
def test_links_inside_a_host_are_the_gpus_own(sets: tuple[str, ...], gb_per_s: float) -> None:
    assert host_link_bytes_per_s(planned(*sets)) == gb_per_s * 1e9


def test_fewer_parameters_than_experts_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"params_billions = 7: must be above the 28\.99 that the routed experts"):
        planned("model.name=qwen3-30b-a3b", "model.params_billions=7")


def test_engines_that_share_experts_come_in_whole_groups() -> None:
    whole = planned(*SHARING)
    assert left_out(replace(whole, num_instances=4)) == ()
    (said,) = left_out(replace(whole, num_instances=5))
    assert said.startswith(
        "numbers of instances that are no multiple of engine.data_parallel_size = 2 (unified 5): the"
    )
    (said,) = left_out(replace(whole, num_instances=8, num_prefill=3, num_decode=5), is_pd=True)
    assert "= 2 (prefill 3, decode 5): the last group's experts are on GPUs" in said
    dense = planned(*SHARING, "model.name=llama-3.1-8b", "engine.enable_expert_parallel=false")
    assert left_out(replace(dense, num_instances=5)) == ()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("engine.vllm_version=0.15.0",), []),
        (
            ("engine.vllm_version=0.14.1",),
            ["engine.vllm_version: vLLM 0.14.1: the rules of its scheduler were not"],
        ),
        (("engine.vllm_version=0.33.0",), ["engine.vllm_version: vLLM 0.33.0 is newer than 0.32, the latest that is"]),
        (("engine.vllm_version=0.32.9",), []),
        (("model.max_model_len=131073",), ["vLLM starts such a server with VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 alone: mo"]),
        (("engine.block_size=24",), ["vLLM does not start such a server: engine.block_size = 24 is no multiple of 16"]),
        (("pd_separation.compute.tokens_per_block=8",), ["vLLM does not start such a server: pd_separation.compute."]),
        (("engine.block_size=24", "cache.prefix_cache=radix"), []),
        (
            ("engine.enable_expert_parallel=true",),
            ["vLLM does not start such a server: engine.enable_expert_"],
        ),
    ],
)
def test_what_no_server_has_is_said(sets: tuple[str, ...], said: list[str]) -> None:
    plan = planned(*sets)
    assert [words[: len(start)] for words, start in zip(left_out(plan), said, strict=True)] == said
    assert unlike_servers(plan.config, plan.spec.model) == list(left_out(plan))


def test_every_kind_of_run_says_so() -> None:
    config = load_config(preset="smoke", sets=(*SHARING, *FEW, "engine.speculative.method=ngram")).config
    assert unmodelled(config)
    runs = (
        run_pd(config),
        run_tiered(SINGLE, {"lru": config}),
    )
    for experiment in runs:
        assert set(unmodelled(config)) <= set(experiment.warnings)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("model.name=llama-3.1-8b", "engine.tensor_parallel_size=3"), "32 attention heads do not divide among 3 GPUs"),
        (("model.name=qwen2.5-7b", "engine.tensor_parallel_size=7"), "neither do 4 KV heads divide among 7 GPUs"),
        (("model.name=qwen2.5-7b", "engine.tensor_parallel_size=4"), None),
        (("model.name=qwen2.5-7b", "engine.tensor_parallel_size=14"), "neither do 4 KV heads divide among 14 GPUs"),
        (("model.name=qwen2.5-7b", "engine.tensor_parallel_size=28"), None),
        (("model.name=deepseek-v3", "engine.tensor_parallel_size=16", "model.weight_dtype=fp8"), None),
        (("model.name=llama-3.1-8b", "engine.tensor_parallel_size=3", "cache.prefix_cache=radix"), None),
    ],
)
def test_heads_divide_among_gpus(sets: tuple[str, ...], said: str | None) -> None:
    found = [
        words
        for words in left_out(unified_plan(load_config(sets=sets, mode="instance").config, 1))
        if "does not start" in words
    ]
    assert bool(found) == (said is not None)
    assert said is None or said in found[0]


def test_adapters_say_what_they_take_and_who_waits() -> None:
    own = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "engine.enable_lora=true", "engine.max_loras=2")
    (said,) = left_out(planned(*own, "engine.max_lora_rank=64"))
    assert said.startswith(
        "engine.enable_lora: adapters, 2 of rank 64, take 0.74 GB a GPU; each request goes through one"
    )
    assert said.endswith("ms to a step of one token by bytes, FLOPs and starts of kernels, and was never measured")
    more = (*own, "load.lora_adapters=5")
    (said,) = left_out(planned(*more))
    assert said.endswith(
        "; of 5 adapters a step has 2: requests of others wait, as in vLLM; a load takes 1.5 ms from host memory and "
        "28 more from disk"
    )
    (said,) = left_out(planned(*more, "engine.lora_loading=false"))
    assert said.endswith("as in vLLM; loading takes no time here")
    (said,) = left_out(planned(*more), is_pd=True)
    assert "as in vLLM; before decode instances none does; a load takes" in said
    assert said.endswith("more from disk, and decode instances load none")
    drafting = ("engine.speculative.method=ngram", "engine.speculative.acceptance=[0.5]")
    (said,) = left_out(planned(*more, *drafting))
    assert "requests of others wait in vLLM, and here not; loading" in said
