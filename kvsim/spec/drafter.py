"""What drafts tokens beside a model: the layers that one pass computes, and what of them the memory of the GPUs holds.

Sources: EAGLE (arXiv 2401.15077): one decoder layer behind a projection of two hidden vectors, with the target's own
embedding and output projection; EAGLE-3 (arXiv 2503.01840): three hidden vectors of the target are projected to one,
the layer's queries, keys and values are of two vectors, and its output projection is over a vocabulary of its own;
DeepSeek-V3 (arXiv 2412.19437), 2.2: a multi-token prediction module is a layer of the target's kind behind a projection
of two vectors, with shared embedding and output projection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvsim.spec.model import ModelSpec

EAGLE3_VOCABULARY = 32_000
"""Tokens that the published EAGLE-3 heads choose among (``draft_vocab_size`` of their config.json)."""


@dataclass(frozen=True, slots=True)
class DrafterSpec:
    """The model that drafts, split over ``tensor_parallel`` GPUs of an instance, or whole on each where that is 1."""

    model: ModelSpec
    """One pass of it: what a token is multiplied with, and all experts that it could be."""
    tensor_parallel: int
    weight_dtype: str
    loaded_params: float
    """Parameters that it does not share with the target."""

    @property
    def weight_bytes_per_gpu(self) -> float:
        """What it adds to the memory of a GPU."""
        share = self.loaded_params / self.model.params
        own = self.model.other_bytes(self.weight_dtype) + self.model.expert_bytes(self.weight_dtype)
        return own * share / self.tensor_parallel

    def kv_bytes_per_token(self, kv_dtype: str, degree: int) -> float:
        """Over the ``degree`` GPUs of an instance."""
        heads = 1 if self.model.is_mla else self.model.num_kv_heads
        copies = max(1.0, self.tensor_parallel / heads) * (degree / self.tensor_parallel)
        return self.model.kv_bytes_per_token(kv_dtype) * copies


def separate_model(model: ModelSpec, weight_dtype: str, tensor_parallel: int) -> DrafterSpec:
    """A smaller model of the same vocabulary."""
    return DrafterSpec(model, tensor_parallel, weight_dtype, model.params)


def eagle(target: ModelSpec, tensor_parallel: int) -> DrafterSpec:
    """An EAGLE head of the target's width."""
    hidden = target.hidden_size
    own = _layer_params(target, hidden) + 2.0 * hidden * hidden
    return _head(target, "EAGLE", own, own + float(target.vocab_size) * hidden, tensor_parallel)


def eagle3(target: ModelSpec, tensor_parallel: int) -> DrafterSpec:
    """An EAGLE-3 head of the target's width."""
    hidden = target.hidden_size
    vocabulary = min(EAGLE3_VOCABULARY, target.vocab_size or EAGLE3_VOCABULARY)
    own = _layer_params(target, 2 * hidden) + 3.0 * hidden * hidden + float(vocabulary) * hidden
    return _head(target, "EAGLE-3", own, own, tensor_parallel)


def multi_token_prediction(target: ModelSpec, weight_dtype: str, tensor_parallel: int) -> DrafterSpec:
    """A module of one layer like the target's last ones, experts and all."""
    hidden, vocabulary = target.hidden_size, float(target.vocab_size) * target.hidden_size
    embeddings = vocabulary if target.tied_embeddings else 2 * vocabulary
    others = (target.params - target.expert_params - embeddings) / target.num_layers
    moe_layers = target.num_layers - target.num_dense_layers
    experts = target.expert_params / moe_layers if target.is_moe else 0.0
    own = max(others, 0.0) + experts + 2.0 * hidden * hidden
    model = replace(
        _one_layer(target, "MTP"),
        params=own + vocabulary,
        unquantised_params=vocabulary,
        num_dense_layers=0,
    )
    return DrafterSpec(model, tensor_parallel, weight_dtype, own)


def _layer_params(target: ModelSpec, input_size: int) -> float:
    """A dense decoder layer of the target's shape, whose attention has inputs of that size."""
    hidden = target.hidden_size
    attention = (target.num_heads + 2 * target.num_kv_heads) * target.head_dim * input_size
    mlp = 3 * hidden * (target.intermediate_size or 4 * hidden)
    return float(attention + target.num_heads * target.head_dim * hidden + mlp)


def _head(target: ModelSpec, kind: str, own: float, params: float, tensor_parallel: int) -> DrafterSpec:
    model = replace(
        _one_layer(target, kind),
        params=params,
        num_experts=0,
        experts_per_token=0,
        expert_intermediate_size=0,
        num_shared_experts=0,
        num_dense_layers=0,
        expert_weight_dtype=None,
        kv_lora_rank=0,
        rope_head_dim=0,
        unquantised_params=0.0,
    )
    return DrafterSpec(model, tensor_parallel, "bf16", own)


def _one_layer(target: ModelSpec, kind: str) -> ModelSpec:
    return replace(
        target,
        name=f"{kind} of {target.name}",
        num_layers=1,
        num_kv_layers=0,
        num_window_layers=0,
        sliding_window_tokens=None,
        extra_params=0.0,
        note="",
    )
