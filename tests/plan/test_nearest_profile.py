"""Step times of an instance that nobody measured: the nearest one's, brought to it, and how far off that may be."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import instance_of, spec_of
from kvsim.plan.measured_profiles import measured_profiles
from kvsim.plan.nearest_profile import NearestProfile, nearest_profile
from kvsim.plan.plan import make_plan
from kvsim.plan.scaling_error import roofline_error, scaling_error
from kvsim.steptime import AffineStepTime, roofline
from kvsim.steptime.sibling import scaled_to

ONE_8B = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")


def nearest(*sets: str) -> NearestProfile:
    config = load_config(sets=sets).config
    return nearest_profile(config, spec_of(config))


def test_the_very_profile_else_the_nearest_sibling_scaled() -> None:
    exact = nearest("model.name=llama-3.1-70b", "engine.tensor_parallel_size=4", "model.weight_dtype=fp8")
    assert (exact.name, exact.level, exact.warning) == ("h100_llama-3.1-70b_tp4_fp8", "measured", None)
    wider = nearest("model.name=llama-3.1-8b", "engine.tensor_parallel_size=4")
    alone = nearest("model.name=llama-3.1-8b", "engine.tensor_parallel_size=2")
    assert wider.name == alone.name == "h100_llama-3.1-8b_tp2_bf16"
    assert (wider.level, alone.level) == ("scaled", "measured")
    assert wider.warning is not None
    said = "on 4 x h100-sxm was not measured: step times of llama-3.1-8b bf16 on 2 x h100-sxm, scaled by"
    assert said in wider.warning
    assert wider.coefficients.a_s_per_kv_token == pytest.approx(alone.coefficients.a_s_per_kv_token / 2)
    assert wider.coefficients.dense_knots[-1][1] < 0.75 * alone.coefficients.dense_knots[-1][1]
    one, other = nearest(*ONE_8B), nearest(*ONE_8B, "hardware.gpu=h20")
    assert one.name == other.name == "h100_llama-3.1-8b_tp1_bf16"
    assert other.coefficients.a_s_per_kv_token == pytest.approx(one.coefficients.a_s_per_kv_token * 3350 / 4000)


@pytest.mark.parametrize(
    ("sets", "differs"),
    [
        ((), ()),
        (("engine.tensor_parallel_size=2",), ("degree",)),
        (("model.kv_dtype=fp8",), ("KV type",)),
        (("model.kv_bytes_per_token=99999",), ("KV size",)),
        (("model.weight_dtype=fp8",), ("weight type",)),
        (("hardware.gpu=h200-sxm",), ("GPU",)),
        (("hardware.peak_tflops=400",), ("GPU",)),
        (("hardware.hbm.read_gb_per_s=2000",), ("GPU",)),
        (("hardware.memory_gib=141",), ()),
        (("model.params_billions=9",), ("model",)),
    ],
)
def test_whatever_bears_on_step_times_makes_another_instance(sets: tuple[str, ...], differs: tuple[str, ...]) -> None:
    config = load_config(sets=[*ONE_8B, *sets]).config
    (own,) = (one for one in measured_profiles() if one.name == "h100_llama-3.1-8b_tp1_bf16")
    spec = spec_of(config)
    assert own.differences(spec) == differs
    assert (own.distance(spec) == 0) == (not differs)


def test_a_rounded_count_makes_no_other_model() -> None:
    """Llama 3 has the shapes of Llama 3.1; of one the published count stands in models.json, of the other the exact."""
    eight = ("model.name=meta-llama/Meta-Llama-3-8B-Instruct", *ONE_8B[1:], "model.max_model_len=8192")
    found = nearest(*eight)
    assert (found.name, found.level) == ("h100_llama-3.1-8b_tp1_bf16", "measured")
    assert nearest(*eight, "model.params_billions=8.2").level == "scaled"


@pytest.mark.parametrize(
    ("gpu", "profile"),
    [
        ("a100-40gb-sxm", "a100"),
        ("a100-40gb-pcie", "a100"),
        ("a100-80gb-pcie", "a100"),
        ("h100-pcie", "h100"),
        ("gh200", "h100"),
        ("gb200", "b200"),
        ("rtx-5090", "rtx-pro-6000"),
        ("rtx-4090", "l40s"),
        ("l4", "l40s"),
        ("a10g", "l40s"),
    ],
)
def test_gpus_are_scaled_from_those_of_their_architecture(gpu: str, profile: str) -> None:
    found = nearest(*ONE_8B, f"hardware.gpu={gpu}", "engine.num_gpu_blocks_override=1000")
    assert found.name == f"{profile}_llama-3.1-8b_tp1_bf16"


def test_scaling_errors_are_those_of_measured_pairs() -> None:
    """An independent loop over the pairs that differ in the degree alone."""
    config = load_config(sets=ONE_8B).config
    spec, efficiencies = spec_of(config), efficiencies_of(config, spec_of(config))

    def decode_s(coefficients):
        times = AffineStepTime(coefficients)
        return np.array([times.decode_span(n, n * k, k)[0] for n in (1, 16, 64, 256) for k in (1000, 4000)])

    errors = []
    for one in measured_profiles():
        for other in measured_profiles():
            mine, its = ((each.model, each.gpu, each.weight_dtype, each.kv_dtype) for each in (one, other))
            if mine == its and one.tensor_parallel != other.tensor_parallel:
                times = scaled_to(one.coefficients, one.spec(spec), other.spec(spec), efficiencies)
                errors.append(100 * np.abs(decode_s(times) / decode_s(other.coefficients) - 1).mean())
    found = scaling_error(("degree",), spec, efficiencies)
    assert found is not None
    assert (found.instances, found.decode_pct) == (len(errors), pytest.approx(np.median(errors)))
    assert found.decode_worst_pct == pytest.approx(max(errors))
    assert scaling_error(("KV size",), spec, efficiencies) is None


def test_kv_in_fp8_is_read_in_half_the_time_and_computed_in_the_same() -> None:
    """Held against the instances that were measured with both."""
    spec = spec_of(load_config(sets=ONE_8B).config)
    found = scaling_error(("KV type",), spec, efficiencies_of(load_config(sets=ONE_8B).config, spec))
    assert found is not None and found.instances >= 8
    assert found.decode_worst_pct < 6 and found.prefill_worst_pct < 2


def test_what_is_not_known_is_said() -> None:
    size = nearest(*ONE_8B, "model.kv_bytes_per_token=1000").warning
    assert size is not None and "how far a different KV size is off is not known" in size
    two = nearest(*ONE_8B, "model.kv_bytes_per_token=1000", "hardware.gpu=h20").warning
    assert two is not None and "GPU alone is off by" in two and "a different KV size is off is not known" in two


def test_what_resembles_nothing_falls_back_to_the_data_sheet() -> None:
    found = nearest("model.name=glm-4.5-air", "engine.tensor_parallel_size=4")
    assert (found.name, found.level) == (None, "roofline")
    assert found.warning is not None and "data-sheet arithmetic" in found.warning
    # Of a mixture of experts no other model's error is shown.
    assert "%" not in found.warning
    config = load_config(sets=["model.name=glm-4.5-air", "engine.tensor_parallel_size=4"]).config
    assert found.coefficients == roofline(spec_of(config), efficiencies_of(config, spec_of(config)))


def test_the_roofline_is_held_against_every_measured_instance() -> None:
    config = load_config(sets=ONE_8B).config
    found = roofline_error(spec_of(config), efficiencies_of(config, spec_of(config)))
    assert found is not None and found.instances == len(measured_profiles())
    assert re.fullmatch(r"\d+% in decode and \d+% in prefill steps \(.*\)", found.words())


def test_each_role_has_the_times_of_its_own_degree() -> None:
    plan = make_plan(load_config(sets=["pd_separation.prefill_tensor_parallel_size=8"]).config)
    assert plan.prefill.nearest is not None and plan.decode.nearest is not None
    names = plan.prefill.nearest.name, plan.decode.nearest.name
    assert names == ("h100_llama-3.1-70b_tp8_bf16", "h100_llama-3.1-70b_tp4_bf16")


def test_without_a_profile_it_is_the_data_sheet() -> None:
    config = load_config(sets=["steptime.method=roofline"]).config
    found = instance_of(config)
    assert found.nearest is None
    assert found.step_time.coefficients == roofline(found.spec, efficiencies_of(config, found.spec))
