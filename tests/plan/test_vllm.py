"""vLLM's arguments as kvsim's keys and as an engine's settings: its names, its defaults, and one line for bad ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch.flags import flags_of
from kvsim.plan.instance import instance_of, load_instance
from kvsim.plan.vllm import KV_DTYPES, QUANTISED, engine_keys, scheduler_settings, step_time_of_version
from kvsim.plan.vllm_defaults import capture_sizes, is_async
from kvsim.spec import find_gpu, find_model

RECORDED = {"num_blocks": 41, "block_size": 16, "max_num_batched_tokens": 256, "max_num_seqs": 8, "max_model_len": 512}


def keys(**arguments: Any) -> dict[str, Any]:
    return engine_keys(Fields("meta.json", arguments, "engine_kwargs."), "0.19.0", 8000)


def test_defaults_are_vllm_s() -> None:
    assert capture_sizes(4) == [1, 2, 4, 8]
    assert capture_sizes(1024)[-3:] == [480, 496, 512]
    assert (is_async("0.13.1"), is_async("0.14.0"), is_async("0.19.0rc1"), is_async("")) == (False, True, True, True)
    found = keys(max_num_seqs=4096, async_scheduling=False, enforce_eager=True)
    assert found["engine.max_num_seqs"] == 4096
    assert found["engine.max_num_batched_tokens"] == 8192
    assert found["engine.async_scheduling"] is False
    assert found["engine.cudagraph_capture_sizes"] == []
    assert found["model.max_model_len"] == 8000
    assert "engine.num_gpu_blocks_override" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_seqs": "many"}, "engine_kwargs.max_num_seqs = 'many': must be a whole number from 1"),
        ({"max_num_seqs": True}, "engine_kwargs.max_num_seqs = True: must be a whole number from 1"),
        ({"enforce_eager": "no"}, "engine_kwargs.enforce_eager = 'no': must be true or false"),
        ({"dtype": ["fp8"]}, r"engine_kwargs.dtype = \['fp8'\]: must be one of auto, bfloat16"),
        ({"gpu_memory_utilization": 0}, "gpu_memory_utilization = 0: must be a number above 0 and at most 1"),
        ({"gpu_memory_utilization": 1.01}, "gpu_memory_utilization = 1.01: must be a number above 0 and at most 1"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^meta.json: .*{message}"):
        keys(**arguments)


def test_an_engine_is_the_same_however_it_is_told() -> None:
    """A scheduler that was recorded, and a server with the same arguments: the same settings."""
    arguments = {name: value for name, value in RECORDED.items() if name != "num_blocks"}
    arguments |= {"num_gpu_blocks_override": 41, "scheduling_policy": "priority", "async_scheduling": True}
    loaded = load_instance("llama-3.1-8b", Fields("", arguments), sets=["engine.scheduler_reserve_full_isl=true"])
    recorded = RECORDED | {"policy": "priority", "async_scheduling": True}
    assert instance_of(loaded.config).settings == scheduler_settings(Fields("", recorded))


def test_a_recorded_scheduler_needs_its_sizes() -> None:
    for name in RECORDED:
        with pytest.raises(ConfigError, match=f"^config.{name} = None: must be a whole number from"):
            scheduler_settings(Fields("", RECORDED | {name: None}, "config."))
    with pytest.raises(ConfigError, match=r"config\.watermark = 1: must be"):
        scheduler_settings(Fields("", RECORDED | {"watermark": 1}, "config."))


def test_sets_come_last_and_gpus_are_those_of_the_engines() -> None:
    arguments = Fields("", {"tensor_parallel_size": 2, "data_parallel_size": 4})
    config = load_instance("qwen3-32b", arguments, sets=["engine.max_num_seqs=3"]).config
    assert (config.engine.max_num_seqs, config.engine.max_num_batched_tokens) == (3, 8192)
    assert config.cluster.total_gpus == config.cluster.network.gpus_per_host == 8


def test_older_engines_take_host_time_between_steps() -> None:
    profile = Path("h100_llama-3.1-8b_tp1_bf16")
    steps = instance_of(load_instance("llama-3.1-8b", Fields("", {}), profile=profile).config).step_time
    older, newer = (step_time_of_version(steps.coefficients, version, (1, 2)) for version in ("0.13", "0.14"))
    assert older.decode_span(10, 1000, 100)[0] - newer.decode_span(10, 1000, 100)[0] == pytest.approx(660e-6)


def server(gpu: str, model: str = "llama-3.1-8b", version: str = "", longest: int = 131_072, **arguments: Any) -> Any:
    found = engine_keys(Fields("vllm serve", arguments), version, longest, gpu=find_gpu(gpu), model=find_model(model))
    return SimpleNamespace(**{key.partition(".")[2]: value for key, value in found.items()})


@pytest.mark.parametrize(
    ("gpu", "tokens", "seqs"),
    [
        ("h100-sxm", 8192, 1024),
        ("h200", 8192, 1024),
        ("a100-80gb-sxm", 2048, 256),
        ("l40s", 2048, 256),
        ("rtx-pro-6000", 8192, 1024),
        ("b200-sxm", 16_384, 1024),
        ("mi300x", 16_384, 1024),
    ],
)
def test_a_server_s_batch_is_that_of_its_gpu(gpu: str, tokens: int, seqs: int) -> None:
    found = server(gpu)
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, seqs)


def test_a_server_s_defaults_are_those_of_its_version() -> None:
    assert server("h100-sxm").gpu_memory_utilization == 0.92
    assert server("h100-sxm", version="0.19.1").gpu_memory_utilization == 0.9
    assert server("b200-sxm", version="0.22.1").max_num_batched_tokens == 8192
    assert server("h100-sxm", version="0.13").async_scheduling is False


def test_defaults_give_way_to_what_is_given() -> None:
    """Throughput doubles, whole prompts need a budget, short sequences fill no more, seats need tokens."""
    fast = server("h100-sxm", performance_mode="throughput")
    assert (fast.max_num_batched_tokens, fast.max_num_seqs) == (16_384, 2048)
    assert server("h100-sxm", performance_mode="throughput", max_num_seqs=64).max_num_seqs == 64
    assert server("h100-sxm", enable_chunked_prefill=False).max_num_batched_tokens == 131_072
    assert server("h100-sxm", max_model_len=16, max_num_seqs=8).max_num_batched_tokens == 128
    assert server("h100-sxm", max_num_batched_tokens=512).max_num_seqs == 512
    experts = {"enable_expert_parallel": True, "data_parallel_size": 2, "all2all_backend": "deepep_low_latency"}
    assert server("h200", "deepseek-v3", **experts).max_num_batched_tokens == 256
    assert server("h100-sxm", max_model_len=-1).max_model_len == 131_072
    limited = server("h100-sxm", max_num_active_seqs=32, max_num_scheduled_tokens=1024)
    assert (limited.max_num_seqs, limited.max_num_batched_tokens) == (32, 1024)
    assert server("h100-sxm", kv_cache_memory_bytes=20 * 10**9).kv_cache_memory_bytes == 20 * 10**9


@pytest.mark.parametrize(
    ("gpu", "arguments", "block_size"),
    [
        ("h100-sxm", {}, 16),
        ("h100-sxm", {"kv_cache_dtype": "fp8"}, 64),
        ("h100-sxm", {"attention_backend": "FLASHMLA"}, 64),
        ("h100-sxm", {"attention_backend": "triton_mla"}, 16),
        ("h100-sxm", {"block_size": 128}, 128),
        ("h100-sxm", {"version": "0.16.0"}, 64),
        ("b200-sxm", {}, 32),
        ("a100-80gb-sxm", {}, 16),
        ("rtx-pro-6000", {}, 16),
    ],
)
def test_blocks_of_latent_attention_are_its_backend_s(gpu: str, arguments: dict[str, Any], block_size: int) -> None:
    assert server(gpu, "deepseek-v3", **arguments).block_size == block_size
    assert server(gpu, **{name: value for name, value in arguments.items() if name == "version"}).block_size == 16


def test_graphs_are_captured_as_vllm_captures_them() -> None:
    def sizes(gpu: str = "h100-sxm", **arguments: Any) -> list[int]:
        return list(server(gpu, **arguments).cudagraph_capture_sizes)

    assert sizes()[:5] == [1, 2, 4, 8, 16] and sizes()[-2:] == [496, 512]
    assert sizes("b200-sxm")[-2:] == [1008, 1024]
    assert sizes(max_num_seqs=20) == [1, 2, 4, 8, 16, 20, 24, 32, 40]
    assert sizes(max_num_seqs=4, max_num_batched_tokens=6) == [1, 2, 4, 6]
    assert sizes(max_cudagraph_capture_size=16) == [1, 2, 4, 8, 16]
    assert sizes(compilation_config={"max_cudagraph_capture_size": 16}) == [1, 2, 4, 8, 16]
    assert sizes(cudagraph_capture_sizes=[64, 1, 64, 99_999]) == [1, 64]
    assert sizes(max_num_seqs=5, performance_mode="interactivity") == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert sizes(enforce_eager=True) == sizes(optimization_level="0") == []
    assert sizes(compilation_config={"cudagraph_mode": "none"}) == []
    assert sizes(compilation_config={"cudagraph_mode": "PIECEWISE"}) == sizes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_seqs": 9000}, "max_num_seqs = 9000: must be at most max_num_batched_tokens, 8,192"),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 512},
            "max_num_batched_tokens = 512: must be at least max_model_len, 131,072, without chunked prefill",
        ),
        ({"quantization": "awk"}, "quantization = 'awk': must be one of fp8, "),
        ({"cudagraph_capture_sizes": [0]}, r"cudagraph_capture_sizes = \[0\]: must be whole numbers from 1"),
        (
            {"max_cudagraph_capture_size": 8, "compilation_config": {"max_cudagraph_capture_size": 9}},
            r"max_cudagraph_capture_size = 8: stands in compilation_config, too \(9\): give one",
        ),
        ({"optimization_level": "4"}, "optimization_level = '4': must be one of 0, 1, 2, 3"),
    ],
)
def test_what_vllm_refuses_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^vllm serve: {message}"):
        server("h100-sxm", **arguments)


def test_a_quantisation_is_the_type_of_the_weights() -> None:
    found = server("h100-sxm", dtype="bfloat16", quantization="awq_marlin", kv_cache_dtype="fp8_e5m2")
    assert (found.weight_dtype, found.kv_dtype) == ("int4", "fp8")
    for engine, known in (("vllm", "--quantization"), ("sglang", "--quantization")):
        flag = next(flag for flag in flags_of(engine) if flag.name == known)
        assert set(flag.neutral) <= QUANTISED.keys()
    kv = next(flag for flag in flags_of("vllm") if flag.name == "--kv-cache-dtype")
    assert set(kv.neutral) <= KV_DTYPES.keys()


def test_sglang_s_defaults_are_its_own() -> None:
    found = server("h100-sxm", prefix_cache="radix", block_size=1, scheduling_policy="lpm")
    assert (found.prefix_cache, found.block_size, found.scheduling_policy) == ("radix", 1, "lpm")
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (8192, 2048)
    assert found.cudagraph_capture_sizes[-2:] == [248, 256]
    reserved_mib = 512 + 1.5 * 8192 + 128 + 2 * 256 + 8 * 58
    assert found.gpu_memory_utilization == round(1 - reserved_mib / (80 * 1024), 3)
    assert found.non_kv_gb_per_gpu == 0
    small = server("h100-sxm", prefix_cache="radix", max_num_batched_tokens=2048, max_num_seqs=8)
    assert small.gpu_memory_utilization == round(1 - 10 / 80, 3)  # GPUs of more than 60 GiB leave 10 at least
    large = server("h100-sxm", prefix_cache="radix", static_memory_fraction=0.8, tensor_parallel_size=4)
    assert (large.gpu_memory_utilization, large.cudagraph_capture_sizes[-1]) == (0.8, 512)
    assert server("l4", prefix_cache="radix", max_num_seqs=16).cudagraph_capture_sizes[-1] == 16


def test_sglang_takes_a_prompt_that_is_longer_than_its_limit_alone() -> None:
    whole = {"prefix_cache": "radix", "scheduler": "sglang", "enable_chunked_prefill": False}
    found = server("h100-sxm", **whole, max_num_batched_tokens=16_384, max_prefill_tokens=16_384)
    assert found.max_num_batched_tokens == 131_072
    short = server("h100-sxm", **whole, max_num_batched_tokens=16_384, max_model_len=8192)
    assert short.max_num_batched_tokens == 16_384
    assert found.gpu_memory_utilization == short.gpu_memory_utilization


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_batched_tokens": 100, "block_size": 64}, "--chunked-prefill-size 100 must be a multiple of"),
        ({"block_size": 7}, "--chunked-prefill-size 8192 must be a multiple of --page-size 7"),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 131_072},
            "steps of 131,072 prompt tokens leave nothing of 80 GiB for weights and KV; give --mem-fraction-static",
        ),
    ],
)
def test_what_sglang_does_not_start_with_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^sglang.launch_server: {message}"):
        server("h100-sxm", prefix_cache="radix", **arguments)
    if "block_size" in arguments:
        server("h100-sxm", prefix_cache="radix", enable_chunked_prefill=False, max_model_len=4096, **arguments)


def test_prompts_without_chunks_need_steps_that_hold_them() -> None:
    sets = ["engine.enable_chunked_prefill=false"]
    with pytest.raises(ConfigError, match=r"max_num_batched_tokens = 8192 is below model\.max_model_len = 131072"):
        load_config(sets=sets)
    sets += ["engine.max_num_batched_tokens=4096", "model.max_model_len=4096"]
    with pytest.raises(ConfigError, match=r"engine\.colocated_budgets = 512 is below model\.max_model_len = 4096"):
        load_config(sets=sets, mode="pd")
    config = load_config(sets=sets, mode="instance").config
    assert instance_of(config).settings.enable_chunked_prefill is False
