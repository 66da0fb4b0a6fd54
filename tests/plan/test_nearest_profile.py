"""Step times of an instance that nobody measured: the nearest one's, brought to it."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.plan.instance import spec_of
from kvsim.plan.nearest_profile import NearestProfile, nearest_profile


def nearest(*sets: str) -> NearestProfile:
    config = load_config(sets=sets).config
    return nearest_profile(config, spec_of(config))


def test_the_very_profile_else_the_nearest_sibling_scaled() -> None:
    exact = nearest("model.name=llama-3.1-70b", "engine.tensor_parallel_size=4", "model.weight_dtype=fp8")
    assert (exact.name, exact.warning) == ("h100_llama-3.1-70b_tp4_fp8", None)
    wider = nearest("model.name=llama-3.1-8b", "engine.tensor_parallel_size=2")
    alone = nearest("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")
    assert wider.name == alone.name == "h100_llama-3.1-8b_tp1_bf16"
    assert wider.warning is not None
    assert "never measured; scaled from llama-3.1-8b bf16 on 1 x h100-sxm" in wider.warning
    assert wider.coefficients.a_s_per_kv_token == pytest.approx(alone.coefficients.a_s_per_kv_token / 2)
    assert wider.coefficients.dense_knots[-1][1] < 0.75 * alone.coefficients.dense_knots[-1][1]
    other = nearest("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "hardware.gpu=h200-sxm")
    assert other.coefficients.a_s_per_kv_token == pytest.approx(alone.coefficients.a_s_per_kv_token * 3350 / 4800)


def test_what_resembles_nothing_falls_back_to_the_data_sheet() -> None:
    found = nearest("model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=2")
    assert found.name is None
    assert found.warning is not None
    assert "data-sheet arithmetic" in found.warning
