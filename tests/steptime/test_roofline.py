"""Roofline coefficients: bytes over bandwidth and FLOPs over peak, recomputed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsim.config import load_config
from kvsim.spec import GPUS, MODELS, InstanceSpec
from kvsim.steptime import AffineStepTime, Efficiencies, roofline
from kvsim.system.plan import make_plan

IDEAL = Efficiencies(
    compute=1.0,
    weight_reading=1.0,
    kv_reading=1.0,
    attention_compute=1.0,
    mixed_attention_factor=1.0,
    allreduce_latency_s=0.0,
    allreduce_bandwidth=1.0,
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
    one, four = roofline(instance(1), IDEAL), roofline(instance(4), replace(IDEAL, allreduce_latency_s=1e-5))
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
