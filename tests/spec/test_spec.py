"""Models and GPUs: bytes by hand, and what is said when something does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.vllm import KV_DTYPES
from kvsim.spec import GPUS, MODELS, InstanceSpec, find_gpu, find_model
from kvsim.units import GB, GIB


def instance(model: str = "llama-3.1-70b", gpu: str = "h100-sxm", tensor_parallel: int = 4) -> InstanceSpec:
    return InstanceSpec(
        model=MODELS[model],
        gpu=GPUS[gpu],
        tensor_parallel=tensor_parallel,
        weight_dtype="bf16",
        kv_dtype="bf16",
        block_size_tokens=16,
        memory_utilisation=0.9,
        non_kv_bytes_per_gpu=4.5e9,
    )


@pytest.mark.parametrize(
    ("model", "kib_per_token"),
    [("llama-3.1-8b", 128), ("llama-3.1-70b", 320), ("llama-3.1-405b", 504), ("qwen3-32b", 256), ("mistral-7b", 128)],
)
def test_kv_bytes_per_token(model: str, kib_per_token: int) -> None:
    assert MODELS[model].kv_bytes_per_token("bf16") == kib_per_token * 1024
    assert MODELS[model].kv_bytes_per_token("fp8") == kib_per_token * 512


def test_weights_of_70b_per_gpu() -> None:
    assert instance().weight_bytes_per_gpu == pytest.approx(35.3e9, rel=0.001)


def test_blocks_of_the_default_instance() -> None:
    spare = 79.19 * GIB * 0.9 - 70.55e9 * 2 / 4 - 4.5e9
    assert instance().num_blocks == int(4 * spare // (327_680 * 16)) == 28_039


def test_kv_types_by_vllms_names() -> None:
    """Per token and head there is a float32 beside each key and value (``TritonAttentionBackend``)."""
    model = MODELS["llama-3.1-8b"]
    values, heads = 2 * 32 * 8 * 128, 2 * 32 * 8
    expected = {"bf16": 2 * values, "fp8": values, "int8": values + 4 * heads, "fp8_per_token_head": values + 4 * heads}
    assert {dtype: model.kv_bytes_per_token(dtype) for dtype in expected} == expected
    names = {"auto": None, "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "int8_per_token_head": "int8"}
    assert {name: KV_DTYPES[name] for name in names} == names


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    assert instance(tensor_parallel=8).kv_bytes_per_token == 327_680
    assert instance(tensor_parallel=16).kv_bytes_per_token == 2 * 327_680


def test_what_is_given_replaces_what_is_derived() -> None:
    assert replace(instance(), num_blocks_override=7).num_blocks == 7
    assert replace(instance(), kv_capacity_bytes_per_gpu=5 * GB).num_blocks == int(20e9 // (327_680 * 16))
    assert replace(instance(), kv_bytes_per_token_override=100.0).kv_bytes_per_token == 100.0


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(CapacityError) as raised:
        _ = instance(tensor_parallel=1).num_blocks
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("llama-3.1-70b (bf16) does not fit 1 x h100-sxm: 141.1 GB of weights")
    assert message.endswith("engine.tensor_parallel_size 2 would fit")


TOO_LARGE: dict[str, tuple[dict[str, Any], str]] = {
    "block": (
        {"block_size_tokens": 10**6},
        "1,000,000 tokens (engine.block_size) of 327,680 bytes take 328 GB, where the weights of llama-3.1-70b leave "
        "147 GB; blocks of up to 448,628 tokens would fit; engine.tensor_parallel_size 8 would fit",
    ),
    "block of any degree": ({"block_size_tokens": 10**9}, "147 GB; blocks of up to 448,628 tokens would fit"),
    "room given": (
        {"block_size_tokens": 10**6, "kv_capacity_bytes_per_gpu": 5 * GB},
        "where hardware.hbm.kv_capacity_gb leaves 20 GB; blocks of up to 61,035 tokens would fit",
    ),
    "no room given": ({"kv_capacity_bytes_per_gpu": 1e4}, "kv_capacity_gb leaves 4e-05 GB; a larger one is wanted"),
    "token": (
        {"kv_bytes_per_token_override": 1e12},
        "of 1e+12 bytes (model.kv_bytes_per_token) take 1.6e+04 GB, where the weights of llama-3.1-70b leave 147 GB; "
        "no tensor_parallel_size up to 32 would fit: use a smaller weight_dtype or a GPU with more memory",
    ),
    "bytes a block": (
        {"kv_bytes_per_token_override": 1e11, "kv_size_key": "cache.block_size_bytes"},
        "of 1e+11 bytes (cache.block_size_bytes) take 1.6e+03 GB, where the weights of llama-3.1-70b leave 147 GB; "
        "engine.tensor_parallel_size 32 would fit",
    ),
}


@pytest.mark.parametrize("which", TOO_LARGE)
def test_a_block_that_does_not_fit_names_what_makes_it_large(which: str) -> None:
    changes, words = TOO_LARGE[which]
    with pytest.raises(CapacityError, match=r"^no KV block fits 4 x h100-sxm: ") as raised:
        _ = replace(instance(), **changes).num_blocks
    assert str(raised.value).endswith(words)


def test_the_largest_block_does_fit() -> None:
    assert replace(instance(), block_size_tokens=448_628).num_blocks == 1
    assert replace(instance(tensor_parallel=8), block_size_tokens=10**6).num_blocks >= 1


def test_the_degree_that_would_fit_does_fit() -> None:
    assert instance(tensor_parallel=2).derived_kv_bytes_per_gpu > GB
    assert instance(tensor_parallel=2).num_blocks > 0


def test_a_model_too_large_for_any_degree_says_so() -> None:
    huge = replace(instance(), model=replace(MODELS["llama-3.1-70b"], params=1e13))
    with pytest.raises(CapacityError, match="no tensor_parallel_size up to 32 would fit: use a smaller weight_dtype"):
        _ = huge.num_blocks


def test_fp8_gemms_run_at_the_fp8_peak() -> None:
    gpu = GPUS["h100-sxm"]
    assert (gpu.peak_flops("bf16"), gpu.peak_flops("fp8"), gpu.peak_flops("int4")) == (989e12, 1979e12, 989e12)
    assert GPUS["a100-80gb-sxm"].peak_flops("fp8") == 312e12


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model.name: unknown model 'llama-3.1-70'; did you mean 'llama-3.1-70b'\?"):
        find_model("llama-3.1-70")
    with pytest.raises(ConfigError, match=r"hardware.gpu: unknown GPU 'h100-sx'; .*h100-sxm"):
        find_gpu("h100-sx")
