"""LoRA adapters of an engine: the buffers that it keeps for them on each GPU.

Source: vLLM 0.32, ``vllm/lora/layers``: ``create_lora_weights`` of each layer. There are ``max_loras`` slots, each with
two matrices of ``max_lora_rank`` for every linear layer, whatever an adapter has of them: A, of the rank and the input,
and B, of the output and the rank. Tensor parallelism splits the outputs of products that are split by columns and the
inputs of those split by rows; the other matrix of each is whole on every GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvsim.spec.model import ModelSpec

ADAPTER_BYTES = 2
"""Bytes of a value: adapters have the type of activations."""


@dataclass(frozen=True, slots=True)
class Adapters:
    """What an engine keeps room for."""

    max_loras: int
    """Adapters in one step, by vLLM's name; likewise the rank."""
    max_lora_rank: int
    used: int = 1
    """Adapters that requests go to, evenly."""


@dataclass(frozen=True, slots=True)
class AdaptedLayer:
    """One kind of linear layer on one GPU, over the whole model."""

    name: str
    layers: int
    inputs: int
    """Values of a token that A reads; likewise those that B writes."""
    outputs: int
    values: int
    """Values of A and B together for each of the rank, over all of a layer's matrices."""
    copies: int = 1
    """Experts of a layer on the GPU, each with matrices of its own."""
    looked_up: int = 0
    """Values of A of which a token takes one row and is not multiplied with the rest."""
    of_sequences: bool = False
    """The last token of each sequence goes through it, and no other."""


def adapted_layers(model: ModelSpec, degree: int, expert_degree: int) -> Iterator[AdaptedLayer]:
    """All layers that have adapters, of a model with ordinary KV heads, on one of ``degree`` GPUs.

    ``expert_degree`` GPUs of data-parallel engines share whole experts; up to ``degree``: none do.
    """
    hidden, width = model.hidden_size, model.num_heads * model.head_dim // degree
    kv_width = max(1, model.num_kv_heads // degree) * model.head_dim
    layers = model.attention_layers
    outputs = width + 2 * kv_width
    yield AdaptedLayer("qkv_proj", layers, hidden, outputs, 3 * hidden + outputs)
    yield AdaptedLayer("o_proj", layers, width, hidden, width + hidden)
    dense = model.num_dense_layers if model.is_moe else model.num_layers
    if dense:
        yield from _mlp(model, dense, model.intermediate_size // degree)
    sparse = model.num_layers - dense
    if sparse:
        experts = model.num_experts
        yield AdaptedLayer("router", sparse, hidden, experts, hidden + experts)
        if model.num_shared_experts:
            yield from _mlp(model, sparse, model.num_shared_experts * model.expert_intermediate_size // degree)
        whole = expert_degree > degree
        inner = model.expert_intermediate_size // (1 if whole else degree)
        count = -(-experts // expert_degree) if whole else experts
        gates = 1 if model.joint_expert_gates else 2
        values = gates * hidden + 3 * inner + hidden
        yield AdaptedLayer("experts", sparse, hidden + inner, hidden + 2 * inner, values, count)
    if model.adapts_vocabulary:
        vocabulary = model.vocab_size
        yield AdaptedLayer("embedding", 1, 0, hidden, vocabulary + hidden, looked_up=vocabulary)
        yield AdaptedLayer("lm_head", 1, hidden, vocabulary, hidden + vocabulary, of_sequences=True)


def _mlp(model: ModelSpec, layers: int, inner: int) -> Iterator[AdaptedLayer]:
    gates, hidden = model.mlp_matrices - 1, model.hidden_size
    yield AdaptedLayer("gate_up_proj", layers, hidden, gates * inner, gates * (hidden + inner))
    yield AdaptedLayer("down_proj", layers, inner, hidden, inner + hidden)


def adapter_buffer_bytes(model: ModelSpec, degree: int, expert_degree: int, adapters: Adapters) -> float:
    """Bytes of the buffers on one GPU."""
    values = sum(one.layers * one.values * one.copies for one in adapted_layers(model, degree, expert_degree))
    return float(adapters.max_loras * adapters.max_lora_rank * values * ADAPTER_BYTES)


def adapter_bytes(model: ModelSpec, degree: int, expert_degree: int, rank: int) -> float:
    """Bytes of one adapter on one GPU: matrices of all linear layers but embeddings and their like, which hardly any
    adapter has."""
    layers = adapted_layers(model, degree, expert_degree)
    values = sum(one.layers * one.values * one.copies for one in layers if one.name not in ("embedding", "lm_head"))
    return float(rank * values * ADAPTER_BYTES)
