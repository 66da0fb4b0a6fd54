"""Stages of a pipeline: which layers and weights they have, and how many blocks that leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import CapacityError
from kvsim.spec import GPUS, MODELS, InstanceSpec
from kvsim.spec.memory import MemoryArguments
from kvsim.spec.operator_weights import EMBEDDING, EXPERTS, LM_HEAD, weights_by_operator
from kvsim.spec.stages import stage_layers, stages_of

ARGUMENTS = MemoryArguments(8192, 1024, 131_072, enforce_eager=False, async_scheduling=True, vllm_version=())
NAMES = sorted(name for name, model in MODELS.items() if model.num_layers >= 4)


def staged(model: str, layers: tuple[int, ...], degree: int = 1, dtype: str = "bf16") -> InstanceSpec:
    spec = InstanceSpec(MODELS[model], GPUS["h100-sxm"], degree, dtype, "bf16", 16, 0.9, arguments=ARGUMENTS)
    return replace(spec, pipeline_layers=layers)


@pytest.mark.parametrize(
    ("layers", "stages", "split"),
    [
        (80, 2, (40, 40)),
        (61, 2, (31, 30)),
        (61, 4, (15, 15, 16, 15)),
        (126, 4, (31, 32, 32, 31)),
        (95, 4, (24, 24, 24, 23)),
        (5, 3, (2, 2, 1)),
        (7, 7, (1,) * 7),
    ],
)
def test_layers_are_split_as_vllm_splits_them(layers: int, stages: int, split: tuple[int, ...]) -> None:
    """What is left over goes to the last stage but one, then to those before."""
    assert stage_layers(layers, stages) == split


@given(st.integers(1, 200), st.integers(1, 16))
def test_all_layers_are_somewhere_once(layers: int, stages: int) -> None:
    found = stages_of(stage_layers(layers, stages))
    assert [stage.first_layer for stage in found] == [sum(one.layers for one in found[:k]) for k in range(stages)]
    assert sum(stage.layers for stage in found) == layers
    assert max(one.layers for one in found) - min(one.layers for one in found) <= 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stages", [2, 3])
def test_weights_are_split_without_rest(name: str, stages: int) -> None:
    model = MODELS[name]
    found = stages_of(stage_layers(model.num_layers, stages))
    for operator, own in weights_by_operator(model, "fp8").items():
        if own.num_bytes:
            assert sum(stage.weight_share(model, operator) for stage in found) == pytest.approx(1), operator
    assert [stage.weight_share(model, EMBEDDING) for stage in found] == [1.0, *[0.0] * (stages - 1)]
    assert [stage.weight_share(model, LM_HEAD) for stage in found] == [*[0.0] * (stages - 1), 1.0]


def test_layers_without_experts_are_the_first_ones() -> None:
    """DeepSeek-V3: 3 of 61 layers have none."""
    model = MODELS["deepseek-v3"]
    first, second = stages_of(stage_layers(61, 2))
    assert (first.layers, first.dense_layers(model), second.dense_layers(model)) == (31, 3, 0)
    assert first.weight_share(model, EXPERTS) == pytest.approx(28 / 58)


def test_one_stage_is_no_pipeline() -> None:
    whole = staged("llama-3.1-70b", (), 4)
    assert (whole.num_gpus, whole.gpus_in_words) == (4, "4 x h100-sxm")
    assert whole.num_blocks == 27_775


def test_blocks_are_those_of_the_stage_that_has_room_for_the_fewest() -> None:
    """Weights and KV by hand. The last stage has the head, its sampler's state and the inputs from the first."""
    spec = staged("llama-3.1-8b", (16, 16))
    layers_bytes = 2 * (8_030_261_248 - 2 * 128_256 * 4096) / 2
    assert spec.tightest.place == 1
    assert spec.loaded_weight_bytes_per_gpu == pytest.approx(layers_bytes + 2 * 128_256 * 4096, rel=1e-3)
    parts = spec.non_kv_memory
    assert parts.stage_inputs == 8192 * 2 * 4096 * 2
    assert parts.sampler_state == 1024 * 128_256 * (4 + 1 / 8)
    left = 0.9 * GPUS["h100-sxm"].total_memory_bytes - spec.loaded_weight_bytes_per_gpu - parts.total
    assert spec.num_blocks == int(left // (16 * 131_072 / 2))
    assert spec.kv_cache_bytes(16) == 16 * 131_072
    # With fewer layers it has room for more.
    assert staged("llama-3.1-8b", (18, 14)).tightest.place == 0
    assert staged("llama-3.1-8b", (18, 14)).num_blocks < spec.num_blocks


def test_the_first_stage_samples_nothing_and_gets_nothing() -> None:
    parts = staged("llama-3.1-8b", (20, 12)).non_kv_memory
    assert (parts.sampler_state, parts.stage_inputs) == (0.0, 0.0)


def test_a_tied_embedding_is_held_twice() -> None:
    """Llama-3.2-1B's is on the first stage and, as output projection, on the last."""
    model = MODELS["llama-3.2-1b"]
    assert model.tied_embeddings
    first, last = (staged("llama-3.2-1b", (15, 1)), staged("llama-3.2-1b", (1, 15)))
    vocabulary = 2 * model.vocab_size * model.hidden_size
    layers = 2 * model.params - vocabulary
    assert first.loaded_weight_bytes_per_gpu == pytest.approx(layers * 15 / 16 + vocabulary, rel=1e-3)
    assert last.loaded_weight_bytes_per_gpu == pytest.approx(layers * 15 / 16 + vocabulary, rel=1e-3)


def test_a_given_budget_is_each_gpus() -> None:
    """1 GB a GPU: the stage with most layers has room for the fewest blocks."""
    spec = replace(staged("llama-3.1-8b", (20, 12)), kv_capacity_bytes_per_gpu=1e9)
    assert spec.num_blocks == int(1e9 // (16 * 131_072 * 20 / 32))
    assert replace(spec, num_blocks_override=77).num_blocks == 77


def test_what_does_not_fit_is_said_by_stage() -> None:
    with pytest.raises(CapacityError) as refused:
        _ = staged("llama-3.1-405b", (63, 63), 2).num_blocks
    assert "does not fit 2 stages of 2 x h100-sxm: stage 1 has layers 63 to 125: " in str(refused.value)
    assert "engine.tensor_parallel_size 8 would fit" in str(refused.value)
    assert staged("llama-3.1-405b", (63, 63), 8).num_blocks > 10_000
