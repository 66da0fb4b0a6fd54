"""Room for LoRA adapters: what vLLM's layers allocate."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.instance import spec_of
from kvsim.spec import MODELS, InstanceSpec
from kvsim.spec.adapters import Adapters, adapted_layers, adapter_buffer_bytes
from kvsim.spec.huggingface import model_of

SMALL = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip
SPARSE = SMALL | {"moe_intermediate_size": 64, "num_experts": 8, "num_experts_per_tok": 2, "head_dim": 32}

ALLOCATED = (("llama", SMALL, 294_912), ("qwen2", SMALL, 233_472), ("qwen3_moe", SPARSE, 602_880))


def instance(*sets: str) -> InstanceSpec:
    return spec_of(load_config(sets=["model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", *sets]).config)


@pytest.mark.parametrize(("kind", "values", "num_bytes"), ALLOCATED)
def test_buffers_are_those_of_vllm(kind: str, values: dict[str, int], num_bytes: int) -> None:
    """Summed over the layers of models of these shapes under vLLM 0.32 (CPU), three slots of rank 8."""
    model = model_of({"model_type": kind, **values}, "small", "config.json")
    assert adapter_buffer_bytes(model, 1, 1, Adapters(3, 8)) == num_bytes


def test_what_is_split_over_gpus() -> None:
    """Llama-3.1-8B on two: inputs of qkv and gate_up are whole, outputs halves; of o and down the other way round."""
    layers = {one.name: one.values for one in adapted_layers(MODELS["llama-3.1-8b"], 2, 1)}
    assert layers == {
        "qkv_proj": 3 * 4096 + 2048 + 2 * 512,
        "o_proj": 2048 + 4096,
        "gate_up_proj": 2 * (4096 + 7168),
        "down_proj": 7168 + 4096,
        "embedding": 128256 + 4096,
        "lm_head": 128256 + 4096,
    }


def test_experts_have_matrices_of_their_own() -> None:
    experts = {one.name: one for one in adapted_layers(MODELS["gpt-oss-20b"], 1, 1)}["experts"]
    assert (experts.copies, experts.layers, experts.values) == (32, 24, 2880 + 2 * 2880 + 2880 + 2880)
    shared = {one.name: one for one in adapted_layers(MODELS["qwen3-30b-a3b"], 1, 4)}["experts"]
    assert (shared.copies, shared.values) == (32, 2 * 2048 + 3 * 768 + 2048)


def test_they_take_of_the_kv_cache() -> None:
    bare = instance()
    some = instance("engine.enable_lora=true", "engine.max_loras=4", "engine.max_lora_rank=64")
    taken = adapter_buffer_bytes(some.model, 1, 1, Adapters(4, 64))
    assert bare.derived_kv_bytes_per_gpu - some.derived_kv_bytes_per_gpu == pytest.approx(taken)
    assert instance("engine.max_loras=4").num_blocks == bare.num_blocks


def test_latent_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine\.enable_lora: adapters of deepseek-v2-lite, which has latent"):
        instance("model.name=deepseek-v2-lite", "engine.enable_lora=true")
