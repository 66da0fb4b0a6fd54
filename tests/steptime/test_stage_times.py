"""Times of a pipeline's stages: they add up to those of all layers; what is sent between them is bytes over links."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from builders import coefficients
from step_tables import random_tables

from kvsim.spec import MODELS, InstanceSpec, find_gpu
from kvsim.spec.operator_weights import LM_HEAD
from kvsim.spec.stages import stage_layers
from kvsim.steptime import AffineStepTime, Efficiencies, roofline
from kvsim.steptime.allreduce import AllReduceLinks
from kvsim.steptime.curves.pipeline import PipelineStepTime
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.stages import SendLinks, formulas_of_stages, full_pipeline, sends_of
from kvsim.steptime.work import weights_of

EFFICIENCIES = Efficiencies(0.7, 0.8, 0.8, 0.5, 1.0, AllReduceLinks(8e-6, 0.8, 19e-6, 16e9), 500e-6, 2e-6)
LINKS = SendLinks(6e-6, 5e-6, 10e-6, 400e9, 50e9, 8)


def spec_of(model: str, stages: int, degree: int = 1, dtype: str = "bf16") -> InstanceSpec:
    own = MODELS[model]
    spec = InstanceSpec(own, find_gpu("h100"), degree, dtype, "bf16", 16, 0.9, 0.0)
    return replace(spec, pipeline_layers=stage_layers(own.num_layers, stages))


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.2-1b", "qwen3-30b-a3b", "deepseek-v3"])
@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_stages_of_the_roofline_add_up(model: str, stages: int, dtype: str) -> None:
    """Exactly where all stages are bound alike; elsewhere each is bound for itself, which takes no less."""
    spec = spec_of(model, stages, 2, dtype)
    whole = roofline(replace(spec, pipeline_layers=()), EFFICIENCIES)
    parts = formulas_of_stages(whole, spec, EFFICIENCIES, has_head=True)
    alone = AffineStepTime(whole)
    own = [AffineStepTime(part) for part in parts]
    for kv in (10, 4000):
        expected_s = alone.decode_alone_s(kv)
        assert sum(one.decode_alone_s(kv) for one in own) == pytest.approx(expected_s, rel=1e-9)
    for tokens in (64, 4096):
        expected_s = alone.prefill_alone_s(tokens, 100)
        found_s = sum(one.prefill_alone_s(tokens, 100) for one in own)
        assert expected_s * (1 - 1e-9) <= found_s <= expected_s * 1.06


def test_the_last_stage_has_the_head_and_the_first_the_host() -> None:
    spec = spec_of("llama-3.1-8b", 2)
    whole = roofline(replace(spec, pipeline_layers=()), EFFICIENCIES)
    first, last = formulas_of_stages(whole, spec, EFFICIENCIES, has_head=True)
    assert (first.const_s, last.const_s) == (500e-6, 0.0)
    assert (first.s_s_per_seq, last.s_s_per_seq) == (0.0, 2e-6)
    # Embedding and head are as large; layers are halved.
    assert first.w0_s == pytest.approx(whole.w0_s / 2)
    assert (first.a_s_per_kv_token, first.b_s_per_token2) == (whole.a_s_per_kv_token / 2, whole.b_s_per_token2 / 2)


def test_a_measured_formula_has_the_head_in_what_every_step_has() -> None:
    spec = spec_of("llama-3.1-8b", 4)
    measured = coefficients(const_s=1e-3, s_s_per_seq=3e-6, dense_knots=((1.0, 0.008), (100.0, 0.012)))
    parts = formulas_of_stages(measured, spec, EFFICIENCIES, has_head=False)
    head_s = weights_of(spec)[LM_HEAD].num_bytes / (spec.gpu.hbm_bytes_per_s * 0.8)
    assert [part.const_s for part in parts] == pytest.approx([1e-3 - head_s, 0.0, 0.0, head_s])
    assert [part.dense_knots for part in parts] == [((1.0, 0.002), (100.0, 0.003))] * 4
    assert [part.s_s_per_seq for part in parts] == [0.0, 0.0, 0.0, 3e-6]


def test_tables_of_stages_are_told_by_layers() -> None:
    tables = random_tables(Random(3))
    halves = [TableStepTime(tables.scaled(share), coefficients(const_s=1.0)) for share in (0.25, 0.75)]
    found = PipelineStepTime(tuple(halves), ((0.0, 0.0),), coefficients(), (1.0, 3.0))
    whole = TableStepTime(tables, coefficients(const_s=1.0))
    work = found.chunk_work(4, 3)
    assert found.mixed_s(7, 4, 3, 20, 9, work) == pytest.approx(whole.mixed_s(7, 4, 3, 20, 9, whole.chunk_work(4, 3)))
    first_s, slope_s, limit = found.decode_span(3, 20, 9)
    assert (first_s, slope_s, limit) == pytest.approx(whole.decode_span(3, 20, 9))


def test_a_send_is_hidden_states_and_residual_over_the_link() -> None:
    """Two GPUs a stage: each sends half, and gathers the other half from its neighbour."""
    ((alone_s, alone_token_s),) = sends_of(spec_of("llama-3.1-8b", 2), LINKS)
    assert (alone_s, alone_token_s) == pytest.approx((6e-6, 2 * 4096 * 2 / 400e9))
    ((pair_s, pair_token_s),) = sends_of(spec_of("llama-3.1-8b", 2, 2), LINKS)
    assert (pair_s, pair_token_s) == pytest.approx((16e-6, 2 * 4096 * 2 / 400e9))


def test_stages_on_other_hosts_are_reached_over_nics() -> None:
    """Four stages of four GPUs, hosts of eight: only the way between the second and the third leaves a host."""
    near, far, again = sends_of(spec_of("llama-3.1-8b", 4, 4), LINKS)
    token_bytes = 2 * 4096 * 2
    assert near == again == pytest.approx((16e-6, token_bytes / 400e9))
    assert far == pytest.approx((15e-6, token_bytes / 4 / 50e9 + token_bytes * 0.75 / 400e9))
    # A stage that spans hosts gathers over their NICs, too.
    ((_, spread_s),) = sends_of(spec_of("llama-3.1-8b", 2, 16), LINKS)
    assert spread_s == pytest.approx(token_bytes / 50e9)


def test_a_full_pipeline_takes_its_slowest_stage_for_each_batch() -> None:
    """Three stages; 30 tokens are three batches of ten."""
    parts = [coefficients(w0_s=w0, w1_s_per_token=w1, a_s_per_kv_token=a) for w0, w1, a in
             ((1.0, 0.01, 3e-6), (0.8, 0.05, 2e-6), (1.1, 0.0, 1e-6))]  # fmt: skip
    found = full_pipeline(parts, ((0.02, 0.001), (0.03, 0.0)))
    slowest_s = max(1.0 + 0.1 + 0.02 + 0.01, 0.8 + 0.5 + 0.03, 1.1)
    assert found.dense_s(np.array([30.0]))[0] == pytest.approx(3 * slowest_s, rel=1e-2)
    assert found.a_s_per_kv_token == 3e-6
