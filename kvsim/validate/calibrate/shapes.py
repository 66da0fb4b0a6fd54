"""The matrix products of one layer of a model on one GPU of a tensor-parallel instance."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec import ModelSpec


@dataclass(frozen=True)
class Product:
    """``tokens x inner`` times ``inner x outer``."""

    name: str
    outer: int
    inner: int


def layer_products(model: ModelSpec, degree: int) -> list[Product]:
    """Products of one dense layer: columns of the first of a pair and rows of the second are split over the GPUs."""
    heads, kv_heads = model.num_heads // degree, max(1, model.num_kv_heads // degree)
    inner = model.intermediate_size // degree
    attention_width = heads * model.head_dim
    return [
        Product("qkv_proj", attention_width + 2 * kv_heads * model.head_dim, model.hidden_size),
        Product("o_proj", model.hidden_size, attention_width),
        Product("gate_up_proj", (model.mlp_matrices - 1) * inner, model.hidden_size),
        Product("down_proj", model.hidden_size, inner),
    ]


def mixture_products(model: ModelSpec, degree: int) -> list[Product]:
    """Products of a layer with experts besides those of the experts: the router, and the experts of every token."""
    if not model.is_moe:
        return []
    inner = model.num_shared_experts * model.expert_intermediate_size // degree
    shared = [
        Product("shared_gate_up_proj", 2 * inner, model.hidden_size),
        Product("shared_down_proj", model.hidden_size, inner),
    ]
    return [Product("router", model.num_experts, model.hidden_size), *(shared if inner else [])]


def head_product(model: ModelSpec, degree: int) -> Product:
    """The output projection; its weights are not quantised."""
    return Product("lm_head", -(-model.vocab_size // degree), model.hidden_size)
