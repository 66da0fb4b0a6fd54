"""The weights of a model by operator: how many, and how many bytes they are stored in."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.model import ModelSpec
from kvsim.spec.weight_types import UNQUANTISED_BYTES, WEIGHT_BYTES

QKV, O_PROJ, GATE_UP, DOWN, OTHER = "qkv_proj", "o_proj", "gate_up_proj", "down_proj", "other_weights"
SHARED, ROUTER, EXPERTS = "shared_experts", "router", "experts"
EMBEDDING, LM_HEAD = "embedding", "lm_head"
KEPT_FIRST = (EMBEDDING, LM_HEAD, ROUTER)
"""What of a quantised checkpoint is in 16 bits before anything else is."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one operator, over the whole instance and all its layers."""

    params: float
    num_bytes: float


def weights_by_operator(model: ModelSpec, weight_dtype: str) -> dict[str, Weights]:
    """All weights of ``model``, by operator; they add up to its parameters and bytes.

    Routed experts are all of them. What is neither attention nor vocabulary is of MLPs or shared experts.
    """
    params = _params(model)
    kept = min(model.unquantised_params, sum(params.values()))
    size, wide = WEIGHT_BYTES[weight_dtype], max(WEIGHT_BYTES[weight_dtype], UNQUANTISED_BYTES)
    found = {}
    for name in KEPT_FIRST:
        own = min(params[name], kept)
        kept -= own
        found[name] = Weights(params[name], own * wide + (params[name] - own) * size)
    rest = sum(count for name, count in params.items() if name not in KEPT_FIRST)
    mean = size + (wide - size) * kept / rest if rest else size
    found |= {name: Weights(count, count * mean) for name, count in params.items() if name not in KEPT_FIRST}
    return found | {EXPERTS: Weights(model.expert_params, model.expert_bytes(weight_dtype))}


def _params(model: ModelSpec) -> dict[str, float]:
    """Parameters by operator, but for the routed experts'."""
    vocabulary = float(model.vocab_size * model.hidden_size)
    sparse_layers = model.num_layers - model.num_dense_layers if model.is_moe else 0
    qkv, out = _attention_params(model)
    found = {
        QKV: qkv * model.attention_layers,
        O_PROJ: out * model.attention_layers,
        ROUTER: float(sparse_layers * model.num_experts * model.hidden_size),
        LM_HEAD: vocabulary,
        EMBEDDING: 0.0 if model.tied_embeddings else vocabulary,
    }
    others, known = model.params - model.expert_params, sum(found.values())
    if known > others:  # A count that somebody configured.
        return {name: count * others / known for name, count in found.items()}
    rest = others - known
    mlp = rest
    if model.is_moe:
        one = model.mlp_matrices * model.hidden_size * model.intermediate_size
        mlp = min(rest, float(model.num_dense_layers * one))
    split = 1 / model.mlp_matrices
    beside = SHARED if model.num_shared_experts else OTHER
    return found | {GATE_UP: mlp * (1 - split), DOWN: mlp * split, beside: rest - mlp}


def _attention_params(model: ModelSpec) -> tuple[float, float]:
    """Parameters of one layer: what makes queries, keys and values, and the output projection."""
    hidden, heads, width = model.hidden_size, model.num_heads, model.head_dim
    if not model.is_mla:
        return float(hidden * (heads + 2 * model.num_kv_heads) * width), float(hidden * heads * width)
    query_width = heads * (width + model.rope_head_dim)
    queries = model.q_lora_rank * (hidden + query_width) if model.q_lora_rank else hidden * query_width
    down = hidden * (model.kv_lora_rank + model.rope_head_dim)
    return float(queries + down + model.kv_lora_rank * heads * 2 * width), float(heads * width * hidden)
