"""Roofline coefficients: bytes over bandwidth and FLOPs over peak, recomputed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.plan.build_step_time import allreduce_of
from kvsim.plan.plan import make_plan
from kvsim.spec import GPUS, MODELS, WEIGHT_BYTES, InstanceSpec
from kvsim.steptime import AffineStepTime, Efficiencies, roofline
from kvsim.steptime.allreduce import AllReduceLinks

IDEAL = Efficiencies(
    compute=1.0,
    weight_reading=1.0,
    kv_reading=1.0,
    attention_compute=1.0,
    mixed_attention_factor=1.0,
    links=AllReduceLinks(nvlink_latency_s=0.0, nvlink_share=1.0, pcie_latency_s=40e-6, pcie_bytes_per_s=16e9),
    step_overhead_s=0.0,
    sequence_overhead_s=0.0,
)


def instance(tensor_parallel: int) -> InstanceSpec:
    return InstanceSpec(
        model=MODELS["llama-3.1-70b"],
        gpu=GPUS["h100-sxm"],
        tensor_parallel=tensor_parallel,
        weight_dtype="bf16",
        kv_dtype="bf16",
        block_size_tokens=16,
        memory_utilisation=0.9,
        non_kv_bytes_per_gpu=4.5e9,
    )


def test_one_ideal_gpu_reads_the_weights_once_and_computes_two_flops_a_parameter() -> None:
    found = roofline(instance(1), IDEAL)
    assert found.w0_s == pytest.approx(70.55e9 * 2 / 3350e9)
    assert found.w0_s == pytest.approx(0.0421, rel=0.01)
    assert found.p1_s_per_token == pytest.approx(2 * 70.55e9 / 989e12)
    assert found.a_s_per_kv_token == pytest.approx(327_680 / 3350e9)
    assert found.b_s_per_token2 == pytest.approx(4 * 80 * 64 * 128 / 989e12)
    assert (found.comm0_s, found.comm1_s_per_token) == (0.0, 0.0)


def test_four_gpus_share_the_work_and_pay_for_all_reduces() -> None:
    slow = replace(IDEAL, links=IDEAL.links._replace(nvlink_latency_s=1e-5))
    one, four = roofline(instance(1), IDEAL), roofline(instance(4), slow)
    for name in ("w0_s", "p1_s_per_token", "a_s_per_kv_token", "b_s_per_token2"):
        assert getattr(four, name) == pytest.approx(getattr(one, name) / 4)
    assert four.comm0_s == pytest.approx(160 * 1e-5)
    assert four.comm1_s_per_token == pytest.approx(160 * (2 * 8192 * 2 * 3 / 4) / 450e9)


def test_efficiencies_divide() -> None:
    half = replace(IDEAL, compute=0.5, weight_reading=0.5, kv_reading=0.5, attention_compute=0.5)
    one, two = roofline(instance(1), IDEAL), roofline(instance(1), half)
    for name in ("w0_s", "p1_s_per_token", "a_s_per_kv_token", "b_s_per_token2"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name))
    assert roofline(instance(1), replace(IDEAL, mixed_attention_factor=1.5)).a_mixed_s_per_kv_token == pytest.approx(
        1.5 * one.a_s_per_kv_token
    )


def test_defaults_lie_where_four_h100s_were_measured() -> None:
    """70B, TP4: about 14 to 18 ms a decode step and 61 to 66 us a prompt token."""
    steps = make_plan(load_config().config).step_time
    assert isinstance(steps, AffineStepTime)
    assert 0.014 <= steps.decode_alone_s(1000) <= 0.018
    assert steps.prefill_alone_s(2048, 0) / 2048 == pytest.approx(63.5e-6, rel=0.1)


QWEN = replace(instance(1), model=MODELS["qwen3-30b-a3b"])


@pytest.mark.parametrize("tokens", [1, 2, 7, 16, 17, 40, 100, 300, 450, 1000, 4096])
@pytest.mark.parametrize("model", ["qwen3-30b-a3b", "mixtral-8x7b", "gpt-oss-120b"])
def test_a_step_reads_the_experts_that_its_tokens_touch(model: str, tokens: int) -> None:
    """E (1 - (1 - k/E)^T) of E, beside what every token needs; many tokens are a matter of FLOPs, of the experts and of
    all else each by itself."""
    spec = replace(instance(1), model=MODELS[model])
    shape = spec.model
    experts = 3 * (shape.num_layers - shape.num_dense_layers) * shape.hidden_size * shape.expert_intermediate_size
    touched = shape.num_experts * (1 - (1 - shape.experts_per_token / shape.num_experts) ** tokens)
    expert_bytes = WEIGHT_BYTES[shape.expert_weight_dtype or "bf16"]
    others = shape.params - experts * shape.num_experts
    others_s = max(2 * others / 3350e9, 2 * others * tokens / 989e12)
    own = 2 * experts * shape.experts_per_token * tokens
    experts_s = max(expert_bytes * experts * touched / 3350e9, own / 989e12)
    found = roofline(spec, IDEAL)
    time_s = AffineStepTime(found).mixed_s(tokens, 1, 0, 0, 0, 0.0)
    assert time_s == pytest.approx(others_s + experts_s, rel=2e-3)
    assert float(found.dense_s(np.array(float(tokens)))) == pytest.approx(time_s, rel=1e-12)


def test_one_request_of_a_mixture_of_experts_reads_its_own() -> None:
    sets = ["model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=1", "steptime.method=roofline"]
    steps = make_plan(load_config(sets=sets).config).step_time
    assert steps.decode_alone_s(1000) == pytest.approx(2.9e-3, rel=0.02)


def test_engines_that_share_experts_touch_more_and_exchange_tokens() -> None:
    shared = replace(QWEN, expert_parallel=8)
    alone, found = roofline(QWEN, IDEAL), roofline(shared, IDEAL)
    own_bytes = 2 * (QWEN.model.params - QWEN.model.expert_params)
    touched = 1 - (1 - 8 / 128) ** 8
    expected_s = (own_bytes + 2 * QWEN.model.expert_params / 8 * touched) / 3350e9
    assert AffineStepTime(found).mixed_s(1, 1, 0, 0, 0, 0.0) == pytest.approx(expected_s + found.comm1_s_per_token)
    assert alone.comm1_s_per_token == 0
    assert found.comm1_s_per_token == pytest.approx(48 * 8 * (2048 * 2 * 2 * 7 / 8) / 450e9)


def test_windows_stop_what_their_layers_read() -> None:
    """gpt-oss-120b: 18 of 36 layers look back 128 tokens."""
    spec = replace(instance(4), model=MODELS["gpt-oss-120b"])
    steps = AffineStepTime(roofline(spec, IDEAL))
    layer_s = 2 * 8 * 64 * 2 / (4 * 3350e9)
    growth_s = steps.decode_alone_s(1128) - steps.decode_alone_s(128)
    assert growth_s == pytest.approx(18 * 1000 * layer_s)
    assert steps.decode_alone_s(128) - steps.decode_alone_s(28) == pytest.approx(36 * 100 * layer_s)
    pair_s = 4 * 64 * 64 / (4 * 989e12)
    inside = 128 * 128 / 2 + 872 * 128
    assert steps.mixed_s(0, 0, 0, 0, 0, steps.chunk_work(1000, 0)) - steps.mixed_s(0, 0, 0, 0, 0, 0.0) == pytest.approx(
        pair_s * (18 * 1000 * 500 + 18 * inside)
    )


def test_gpus_without_nvlink_reduce_over_pcie() -> None:
    """Two hops of 20 us and 16 GB/s, as for measured operators."""
    card = replace(instance(2), model=MODELS["llama-3.1-8b"], gpu=GPUS["l40s"])
    found, four = roofline(card, IDEAL), roofline(replace(card, tensor_parallel=4), IDEAL)
    assert found.comm0_s == pytest.approx(64 * 40e-6)
    assert four.comm0_s == pytest.approx(64 * 120e-6)
    assert found.comm1_s_per_token == pytest.approx(64 * 4096 * 2 * 2 * (1 / 2) / 16e9)
    sets = ["model.name=llama-3.1-8b", "engine.tensor_parallel_size=2", "hardware.gpu=l40s", "steptime.method=roofline"]
    config = load_config(sets=sets).config
    configured = make_plan(config)
    reduce_s = allreduce_of(config, configured.spec)
    assert reduce_s is not None
    assert configured.step_time.coefficients.comm0_s == pytest.approx(64 * float(reduce_s(np.zeros(1))[0]))
    given = load_config(sets=[*sets, "steptime.pcie_allreduce_latency_us=10"]).config
    assert make_plan(given).step_time.coefficients.comm0_s == pytest.approx(64 * 10e-6)


def test_attention_runs_in_the_type_of_kv() -> None:
    """Whatever the weights are: attention measured beside fp8 weights takes as long as beside bf16 ones."""
    narrow = replace(instance(1), weight_dtype="fp8")
    assert roofline(narrow, IDEAL).b_s_per_token2 == roofline(instance(1), IDEAL).b_s_per_token2
    both = roofline(replace(narrow, kv_dtype="fp8"), IDEAL)
    assert both.b_s_per_token2 == pytest.approx(4 * 80 * 64 * 128 / 1979e12)
