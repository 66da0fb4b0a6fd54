"""Stages of a pipeline: which layers each has, and which weights.

Source: vLLM's ``get_pp_indices``. The first stage has the embedding, the last the output projection; where these are
one matrix, both have it. Layers of a mixture of experts that have none come first.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.memory import extra_weight_bytes
from kvsim.spec.model import ModelSpec
from kvsim.spec.operator_weights import (
    DOWN,
    EMBEDDING,
    EXPERTS,
    GATE_UP,
    LM_HEAD,
    ROUTER,
    SHARED,
    weights_by_operator,
)

MOST_STAGES = 1024
"""More than any model has layers."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Some layers of a model, one after the other."""

    place: int
    first_layer: int
    layers: int
    is_last: bool

    @property
    def is_first(self) -> bool:
        return self.place == 0

    def layer_share(self, model: ModelSpec) -> float:
        """Share of all layers; layers with attention, and so KV, are taken to be spread evenly."""
        return self.layers / model.num_layers

    def dense_layers(self, model: ModelSpec) -> int:
        """Layers without experts, of a mixture of experts."""
        return max(0, min(self.first_layer + self.layers, model.num_dense_layers) - self.first_layer)

    def sparse_share(self, model: ModelSpec) -> float:
        """Share of the layers with experts."""
        sparse = model.num_layers - model.num_dense_layers
        return (self.layers - self.dense_layers(model)) / sparse if sparse else 0.0

    def weight_share(self, model: ModelSpec, operator: str) -> float:
        """Share of an operator's weights."""
        if operator == EMBEDDING:
            return float(self.is_first)
        if operator == LM_HEAD:
            return float(self.is_last)
        if operator in (SHARED, ROUTER, EXPERTS):
            return self.sparse_share(model)
        if model.is_moe and operator in (GATE_UP, DOWN):
            return self.dense_layers(model) / model.num_dense_layers if model.num_dense_layers else 0.0
        return self.layer_share(model)


def stage_layers(num_layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage. Those that are left over when all have equally many go one each to the last but one, the
    one before it and so on: the last stage has the output projection beside its layers."""
    found = [num_layers // stages] * stages
    for place in range(2, num_layers % stages + 2):
        found[-place] += 1
    return tuple(found)


def stages_of(layers: tuple[int, ...]) -> tuple[Stage, ...]:
    """Stages of so many layers each."""
    found, first = [], 0
    for place, count in enumerate(layers):
        found.append(Stage(place, first, count, place == len(layers) - 1))
        first += count
    return tuple(found)


def stage_weight_bytes(model: ModelSpec, stage: Stage, tensor_parallel: int, expert_gpus: int, dtype: str) -> float:
    """Bytes of weights that each GPU of a stage holds as loaded; ``expert_gpus`` of them share its experts."""
    found = 0.0
    for operator, own in weights_by_operator(model, dtype).items():
        gpus = expert_gpus if operator == EXPERTS else tensor_parallel
        found += own.num_bytes * stage.weight_share(model, operator) / gpus
        if operator == LM_HEAD and model.tied_embeddings and stage.is_first and not stage.is_last:
            found += own.num_bytes / gpus
    beside = model.extra_bytes / tensor_parallel
    layers = extra_weight_bytes(model, tensor_parallel, dtype) - beside
    share = stage.sparse_share(model) if model.is_moe and not model.is_mla else stage.layer_share(model)
    return found + layers * share + (beside if stage.is_first else 0.0)
