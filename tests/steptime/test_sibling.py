"""Step times of one instance from another's: what is kept, what grows by bytes, what by layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients

from kvsim.spec import GPUS, MODELS, InstanceSpec
from kvsim.steptime import Coefficients, Efficiencies, roofline
from kvsim.steptime.allreduce import AllReduceLinks
from kvsim.steptime.sibling import scaled_to

PLAIN = Efficiencies(
    compute=0.5,
    weight_reading=0.5,
    kv_reading=1.0,
    attention_compute=1.0,
    mixed_attention_factor=1.0,
    links=AllReduceLinks(nvlink_latency_s=1e-5, nvlink_share=1.0, pcie_latency_s=4e-5, pcie_bytes_per_s=16e9),
    step_overhead_s=0.0,
    sequence_overhead_s=0.0,
)
PLACES = (1.0, 4096.0)


def spec(model: str = "llama-3.1-8b", gpu: str = "h100-sxm", degree: int = 1, dtype: str = "bf16") -> InstanceSpec:
    return InstanceSpec(MODELS[model], GPUS[gpu], degree, dtype, "bf16", 16, 0.9)


def measured(own: InstanceSpec, times: float, const_s: float = 0.0) -> Coefficients:
    """``times`` as long by tokens as the roofline says."""
    dense_s = roofline(own, PLAIN).dense_s(np.array(PLACES))
    return coefficients(dense_knots=tuple(zip(PLACES, (times * dense_s).tolist(), strict=True)), const_s=const_s)


def knots_s(found: Coefficients) -> np.ndarray:
    return np.array([time_s for _, time_s in found.dense_knots])


def dense_s(own: InstanceSpec) -> np.ndarray:
    return roofline(own, PLAIN).dense_s(np.array(PLACES))


def test_wider_weights_add_what_more_there_is_to_read() -> None:
    narrow, wide = spec(dtype="fp8"), spec()
    slow = knots_s(scaled_to(measured(narrow, 3.0), narrow, wide, PLAIN))
    assert slow == pytest.approx(2 * dense_s(narrow) + dense_s(wide))
    fast = knots_s(scaled_to(measured(narrow, 0.8), narrow, wide, PLAIN))
    assert fast == pytest.approx(0.8 * dense_s(wide))
    back = knots_s(scaled_to(measured(wide, 3.0), wide, narrow, PLAIN))
    assert back == pytest.approx(3 * dense_s(narrow))


def test_sums_over_nvlink_give_way_to_those_over_pcie() -> None:
    linked, apart = spec("llama-3.1-70b", degree=4), spec("llama-3.1-70b", "l40s", 4)
    comm_s = {}
    for own in (linked, apart):
        c = roofline(own, PLAIN)
        comm_s[own] = c.comm0_s + c.comm1_s_per_token * np.array(PLACES)
    found = knots_s(scaled_to(measured(linked, 2.0), linked, apart, PLAIN))
    growth = (dense_s(apart) - comm_s[apart]) / (dense_s(linked) - comm_s[linked])
    assert found == pytest.approx((2 * dense_s(linked) - comm_s[linked]) * growth + comm_s[apart])
    nvlink = replace(apart, gpu=GPUS["a100-80gb-sxm"])
    assert knots_s(scaled_to(measured(linked, 2.0), linked, nvlink, PLAIN)) == pytest.approx(2 * dense_s(nvlink))


def test_what_every_step_has_is_the_head_and_the_layers() -> None:
    """Llama 3.1 8B and Qwen 2.5 0.5B: 32 and 24 layers, vocabularies of 128,256 x 4,096 and 151,936 x 896."""
    head_s = 2 * 128_256 * 4096 / (3350e9 * 0.5)
    found = scaled_to(measured(spec(), 1.0, head_s + 32e-6), spec(), spec("qwen2.5-0.5b", "b200-sxm"), PLAIN)
    assert found.const_s == pytest.approx(2 * 151_936 * 896 / (8000e9 * 0.5) + 24e-6)
    bare = coefficients(w0_s=1.0, p1_s_per_token=1.0, const_s=0.5)
    assert scaled_to(bare, spec(), spec("qwen2.5-0.5b"), PLAIN).const_s == 0.5
