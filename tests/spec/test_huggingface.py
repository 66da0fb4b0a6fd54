"""Models from their config.json, and names however they are spelt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.errors import ConfigError
from kvsim.spec import MODELS, InstanceSpec, find_gpu, find_model
from kvsim.spec.huggingface import read_model_config

LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
QWEN_30B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151936,
}


def written(folder: Path, values: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.parametrize(("values", "name"), [(LLAMA_8B, "llama-3.1-8b"), (QWEN_30B, "qwen3-30b-a3b")])
def test_a_config_describes_the_model_we_know(tmp_path: Path, values: dict[str, object], name: str) -> None:
    found, known = read_model_config(written(tmp_path, values)), MODELS[name]
    assert found.params == pytest.approx(known.params, rel=0.02)
    assert found.kv_bytes_per_token("bf16") == known.kv_bytes_per_token("bf16")
    assert (found.num_experts, found.experts_per_token) == (known.num_experts, known.experts_per_token)
    path = str(tmp_path / "config.json")
    assert find_model(path) == replace(found, hf_id=path)


def test_weights_types_are_named_as_here(tmp_path: Path) -> None:
    def dtype(method: str | None) -> str:
        changed = {} if method is None else {"quantization_config": {"quant_method": method}}
        return read_model_config(written(tmp_path, LLAMA_8B | changed)).weight_dtype

    assert [dtype(method) for method in (None, "fp8", "awq")] == ["bf16", "fp8", "int4"]


BAD = {
    "no key 'hidden_size'": {key: value for key, value in LLAMA_8B.items() if key != "hidden_size"},
    "num_hidden_layers = -1: must be a whole number from 1": LLAMA_8B | {"num_hidden_layers": -1},
    "num_hidden_layers = 3.5": LLAMA_8B | {"num_hidden_layers": 3.5},
    "num_key_value_heads = 5: must be a divisor of num_attention_heads, 32": LLAMA_8B | {"num_key_value_heads": 5},
    "num_experts_per_tok = 200: must be 1 to 128": QWEN_30B | {"num_experts_per_tok": 200},
    "holds no object": [1, 2],
}


@pytest.mark.parametrize(("message", "values"), BAD.items(), ids=range(len(BAD)))
def test_bad_configs_are_refused(tmp_path: Path, message: str, values: object) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        read_model_config(written(tmp_path, values))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-70B-Instruct-FP8", "llama-3.1-70b"),
        ("Qwen/Qwen3-32B", "qwen3-32b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
    ],
)
def test_models_by_their_hub_names(spelt: str, name: str) -> None:
    assert find_model(spelt).name == name


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("h100_sxm", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000"),
        ("RTXPRO6000", "rtx-pro-6000"),
        ("NVIDIA L40S", "l40s"),
        ("A100", "a100-80gb-sxm"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA A40", "a40"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
    ],
)
def test_gpus_however_they_are_spelt(spelt: str, name: str) -> None:
    assert find_gpu(spelt).name == name


def test_experts_window_and_latent_by_hand() -> None:
    mixtral, deepseek, oss = MODELS["mixtral-8x7b"], MODELS["deepseek-v3"], MODELS["gpt-oss-120b"]
    assert mixtral.active_params == pytest.approx(12.9e9, rel=0.02)
    assert deepseek.active_params == pytest.approx(37e9, rel=0.05)
    assert mixtral.active_experts(1) == pytest.approx(2)
    assert mixtral.active_experts(2) == pytest.approx(8 * (1 - 0.75**2))
    assert deepseek.kv_bytes_per_token("bf16") == 61 * 576 * 2
    per_token = 36 * 2 * 8 * 64 * 2
    assert oss.kv_bytes_of_sequence(1000, "bf16") == pytest.approx(per_token * (18 * 1000 + 18 * 128) / 36)
    assert oss.kv_bytes_of_sequence(100, "bf16") == per_token * 100


def test_experts_are_held_once_by_the_engines_that_share_them() -> None:
    spec = InstanceSpec(MODELS["qwen3-30b-a3b"], find_gpu("h100"), 1, "bf16", "bf16", 16, 0.9, 0.0)
    shared = InstanceSpec(MODELS["qwen3-30b-a3b"], find_gpu("h100"), 1, "bf16", "bf16", 16, 0.9, 0.0, expert_parallel=2)
    experts_bytes = 3 * 48 * 128 * 2048 * 768 * 2
    assert spec.weight_bytes_per_gpu - shared.weight_bytes_per_gpu == pytest.approx(experts_bytes / 2)
    latent = InstanceSpec(MODELS["deepseek-v3"], find_gpu("h200"), 8, "fp8", "bf16", 16, 0.9, 0.0)
    assert latent.kv_bytes_per_token == 8 * 61 * 576 * 2


DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 129280,
    "quantization_config": {"quant_method": "fp8"},
}
V2_LITE = DEEPSEEK_V3 | {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "q_lora_rank": None,
    "vocab_size": 102400,
}


@pytest.mark.parametrize(("values", "billions", "active"), [(DEEPSEEK_V3, 671.0, 37.5), (V2_LITE, 15.7, 2.66)])
def test_latent_attention_without_a_head_dim(
    tmp_path: Path, values: dict[str, object], billions: float, active: float
) -> None:
    """Parameters of the model cards; a head is 128 wide, not hidden_size / num_attention_heads."""
    found = read_model_config(written(tmp_path, values))
    assert found.params / 1e9 == pytest.approx(billions, rel=2e-3)
    assert found.active_params / 1e9 == pytest.approx(active, rel=1e-2)
    assert found.head_dim == 128


def test_a_config_of_deepseek_is_the_model_we_know(tmp_path: Path) -> None:
    found, known = read_model_config(written(tmp_path, DEEPSEEK_V3)), MODELS["deepseek-v3"]
    pairs = [4 * model.num_layers * model.num_heads * model.head_dim for model in (found, known)]
    assert pairs[0] == pairs[1] == pytest.approx(4.0e6, rel=1e-3)
    assert found.kv_bytes_per_token("bf16") == known.kv_bytes_per_token("bf16")
    assert found.params == pytest.approx(known.params, rel=1e-3)
    assert (found.weight_dtype, found.expert_weight_dtype) == ("fp8", None)
