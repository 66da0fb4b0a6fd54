"""Explanations of steps: parts add up to what an engine is charged, and to what a model is made of."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from builders import Row, by_request, coefficients, colocated, plan, served, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import spec_of
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.spec import GPUS, MODELS, InstanceSpec
from kvsim.steptime import AffineStepTime, Coefficients, Efficiencies, roofline
from kvsim.steptime.assemble import Shape, assemble
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.explain import KERNEL_START_S, Explanation, explain_formula, explain_roofline, explain_tables
from kvsim.steptime.fit import fitted
from kvsim.steptime.operators import Operators
from kvsim.steptime.work import weights_of, works_of

SIZES = (4, 16, 64)
batches = st.builds(
    Batch,
    st.lists(st.builds(Decodes, st.integers(1, 90), st.integers(1, 9000)), max_size=3).map(tuple),
    st.lists(st.builds(PromptChunk, st.integers(1, 3000), st.integers(0, 9000)), max_size=2).map(tuple),
).filter(lambda batch: batch.seqs > 0)


@cache
def efficiencies() -> Efficiencies:
    config = load_config().config
    return efficiencies_of(config, spec_of(config))


def spec(model: str = "llama-3.1-8b", gpu: str = "h100-sxm", degree: int = 1, **other: object) -> InstanceSpec:
    found = InstanceSpec(MODELS[model], GPUS[gpu], degree, MODELS[model].weight_dtype, "bf16", 16, 0.9)
    return replace(found, **other)


def padded(batch: Batch, sizes: tuple[int, ...]) -> int:
    return min((size for size in sizes if size >= batch.tokens), default=batch.tokens)


def adds_up(found: Explanation, charged_s: float) -> None:
    assert found.time_s == charged_s
    assert sum(part.time_s or 0.0 for part in found.parts) == pytest.approx(charged_s, rel=1e-9)
    assert all((part.time_s or 0.0) >= -1e-12 * charged_s for part in found.parts)
    reasons_s = sum(reason.time_s for reason in found.reasons)
    assert reasons_s == pytest.approx(max(charged_s - found.limit_s, reasons_s), rel=1e-6)


def affine_s(times: Coefficients, sizes: tuple[int, ...], batch: Batch) -> float:
    """As ``kvsim.sim.engine`` asks for a step."""
    steps = AffineStepTime(times, sizes)
    if not batch.chunks:
        return steps.decode_span(batch.num_decodes, batch.kv_tokens, batch.longest_tokens)[0]
    work = sum(steps.chunk_work(chunk.tokens, chunk.prefix_tokens) for chunk in batch.chunks)
    return steps.mixed_s(batch.tokens, batch.seqs, batch.num_decodes, batch.kv_tokens, batch.longest_tokens, work)


@given(
    batches,
    st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gemma-3-27b", "gpt-oss-120b"]),
    st.sampled_from([1, 8]),
    st.sampled_from([(), SIZES]),
    st.sampled_from([1.0, 1.3]),
)
def test_operators_of_a_roofline_add_up(
    batch: Batch, model: str, degree: int, sizes: tuple[int, ...], factor: float
) -> None:
    own = spec(model, degree=degree)
    times = roofline(own, efficiencies()).scaled(factor)
    found = explain_roofline(AffineStepTime(times, sizes), own, batch, padded(batch, sizes), efficiencies())
    adds_up(found, affine_s(times, sizes, batch))
    assert found.has_operators


FITTED = coefficients(
    a_s_per_kv_token=4e-8,
    a_mixed_s_per_kv_token=6e-8,
    straggler_s_per_token=3e-7,
    straggler_min_seqs=5.0,
    b_s_per_token2=1e-9,
    prefill_chunk_floor_tokens=256.0,
    s_s_per_seq=3e-6,
    const_s=1e-3,
    decode_s_per_seq=5e-6,
    decode_mixed_s_per_seq=1e-5,
    decode_mixed_s_per_seq_token=6e-9,
    straggler_mixed_s_per_token=2e-7,
)


@given(batches, st.booleans(), st.sampled_from([(), SIZES]), st.sampled_from([0.0, 4096.0]))
def test_parts_of_a_formula_add_up(batch: Batch, knots: bool, sizes: tuple[int, ...], window: float) -> None:
    lines = {"w0_s": 0.01, "p1_s_per_token": 6e-5, "comm0_s": 1e-3, "comm1_s_per_token": 1e-6}
    form = {"dense_knots": ((1.0, 0.01), (64.0, 0.02), (2048.0, 0.1))} if knots else lines
    times = replace(FITTED, **form, window_share=0.5 if window else 0.0, window_tokens=window)
    own = spec(degree=2)
    found = explain_formula(AffineStepTime(times, sizes), own, batch, padded(batch, sizes), "measured", efficiencies())
    adds_up(found, affine_s(times, sizes, batch))
    names = {name for part in found.parts for name in (part.name, *(member.name for member in part.members))}
    assert {"qkv_proj", "allreduce", "lm_head", "host"} <= names
    assert not found.has_operators


def rows(base: float, slope: float) -> np.ndarray:
    return np.array([(x, base + slope * x) for x in (1.0, 64.0, 1024.0)])


def attention(*, mixed: bool) -> np.ndarray:
    decode = [(0, 0, n, k, 5e-6 + 1e-8 * n * k) for n in (1, 64) for k in (16, 1024)]
    prefill = [(c, p, 0, 0, 5e-6 + 1e-9 * c * (p + c / 2)) for c in (16, 256) for p in (0, 512)]
    both = [(c, 0, n, k, 5e-6 + 5e-10 * c * c + 2e-8 * n * k) for c in (16, 256) for n in (1, 64) for k in (16, 1024)]
    return np.array([*decode, *prefill, *(both if mixed else [])], dtype=np.float64)


DENSE = {"qkv_proj": rows(1e-5, 1e-7), "layernorm": rows(2e-6, 1e-8), "act_fn": rows(4e-6, 1e-8)}
HEAD = {"lm_head": rows(1e-4, 1e-6), "sampler": rows(2e-5, 1e-6)}
MOE = np.array([(t, e, 1e-6 * t + 1e-5 * e) for t in (1.0, 64.0) for e in (1.0, 8.0)])
SHAPE = Shape(10, 8, 132, lambda tokens: 8e-6 + 1e-8 * tokens, 1e-9, 1e-4, 1e-6)


@given(batches, st.booleans(), st.booleans(), st.sampled_from([1.0, 1.3]))
def test_operators_of_tables_add_up(batch: Batch, mixed: bool, sparse: bool, factor: float) -> None:
    shape = replace(SHAPE, experts_on_rank=8, expert_share=0.25) if sparse else SHAPE
    operators = Operators(DENSE, HEAD, attention(mixed=mixed), **({"moe": MOE} if sparse else {}))
    tables = assemble(operators, shape).scaled(factor)
    steps = TableStepTime(tables, fitted(tables), SIZES)
    found = explain_tables(steps, spec(degree=2), batch, padded(batch, SIZES), operators, shape)
    adds_up(found, batch.seconds(steps))


def test_operators_of_tables_take_what_was_measured() -> None:
    """Once a layer, the layer norm twice, the head once; the host and what was not measured is modelled."""
    operators = Operators(DENSE, HEAD, attention(mixed=False))
    tables = assemble(operators, SHAPE)
    steps, batch = TableStepTime(tables, fitted(tables)), Batch((Decodes(32, 500),), (PromptChunk(32),))
    parts = {part.name: part for part in explain_tables(steps, spec(degree=2), batch, 64, operators, SHAPE).parts}
    assert parts["qkv_proj"].time_s == pytest.approx(10 * (1e-5 + 64e-7))
    assert parts["layernorm"].time_s == pytest.approx(20 * (2e-6 + 64e-8))
    assert parts["lm_head"].time_s == pytest.approx(1e-4 + 33e-6)
    assert parts["allreduce"].time_s == pytest.approx(21 * (8e-6 + 64e-8))
    assert parts["host"].time_s == pytest.approx(1e-4)
    modelled = {name for name, part in parts.items() if part.known == "modelled"}
    assert modelled == {"host", "sequences", "allreduce", "attention_decode"}


def test_an_engine_is_charged_what_is_explained() -> None:
    """One prompt of 100 tokens, then two steps that decode behind it."""
    own = spec()
    times = roofline(own, efficiencies())
    run = served(UnifiedSystem, colocated(plan(times=times)), workload([Row(0.0, 100, 3)]))
    table, steps = by_request(run), AffineStepTime(times)

    def explained_s(batch: Batch) -> float:
        parts = explain_roofline(steps, own, batch, batch.tokens, efficiencies()).parts
        return sum(part.time_s or 0.0 for part in parts)

    ttft_s = float(table["first_token_s"][0] - table["arrival_s"][0])
    assert ttft_s == pytest.approx(explained_s(Batch(chunks=(PromptChunk(100),))), rel=1e-9)
    decoded_s = float(table["finish_s"][0] - table["first_token_s"][0])
    two_s = sum(explained_s(Batch((Decodes(1, context),))) for context in (101, 102))
    assert decoded_s == pytest.approx(two_s, rel=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_operators_have_all_weights_of_a_model(name: str, dtype: str) -> None:
    own = spec(name, weight_dtype=dtype)
    weights = weights_of(own)
    assert sum(each.params for each in weights.values()) == pytest.approx(own.model.params, rel=1e-12)
    assert sum(each.num_bytes for each in weights.values()) == pytest.approx(own.weight_bytes_per_gpu, rel=1e-12)
    assert all(each.params >= 0 and each.num_bytes >= 0 for each in weights.values())


def test_work_of_one_gpu_by_hand() -> None:
    """Llama 3.1 8B: hidden 4096, 32 heads on 8 KV heads of 128, MLP 14336, vocabulary 128256, 32 layers; two GPUs."""
    batch = Batch((Decodes(4, 1000),), (PromptChunk(60, 40),))
    works = works_of(spec(degree=2), batch)
    qkv, gate_up = 32 * 4096 * 6144, 32 * 4096 * 2 * 14336
    assert works["qkv_proj"].flops == 2 * 64 * qkv / 2
    assert works["qkv_proj"].num_bytes == 2 * qkv / 2 + 32 * 64 * 2 * (4096 + 3072)
    assert works["gate_up_proj"].flops == pytest.approx(2 * 64 * gate_up / 2, rel=1e-3)  # norms are counted to MLPs
    assert works["lm_head"].flops == 2 * 5 * 4096 * 128256 / 2
    passed = 2 * 32 * 16 * 128 * 2
    assert works["attention_decode"].num_bytes == 4000 * 131072 / 2 + 4 * passed
    assert works["attention_decode"].flops == 4 * 32 * 16 * 128 * 4000
    assert works["attention_prefill"].flops == 4 * 32 * 16 * 128 * 60 * (40 + 30)
    assert works["allreduce"].calls == 65
    assert works["allreduce"].link_s == pytest.approx(65 * 64 * 4096 * 2 / 450e9)
    assert works["qkv_proj"].bound == "memory" and works["qkv_proj"].limit_s == works["qkv_proj"].memory_s


def test_windows_and_experts_are_no_more_than_what_is_looked_at() -> None:
    own = spec("gemma-3-27b")
    share, window = own.model.window_share, own.model.sliding_window_tokens
    assert window is not None
    far = works_of(own, Batch((Decodes(1, 50_000),)))["attention_decode"].num_bytes
    passed = 2 * own.model.attention_layers * own.model.num_heads * own.model.head_dim * 2
    read = 50_000 * (1 - share) + window * share
    assert far - passed == pytest.approx(read * own.kv_bytes_per_token)
    sparse = spec("qwen3-30b-a3b")
    one = works_of(sparse, Batch((Decodes(1, 10),)))["experts"]
    assert one.flops == pytest.approx(2 * sparse.model.expert_params * 8 / 128)
    assert one.num_bytes == pytest.approx(2 * sparse.model.expert_params * 8 / 128, rel=1e-3)


def test_reasons_are_capped_by_what_is_beyond_the_limit() -> None:
    """A formula at its operators' limits has no room for kernels that start."""
    own, batch = spec(), Batch((Decodes(1, 100),))
    limit_s = sum(each.limit_s for each in works_of(own, batch).values())
    tight = coefficients(dense_knots=((1.0, limit_s), (2.0, limit_s)))
    found = explain_formula(AffineStepTime(tight), own, batch, 1, "scaled", efficiencies())
    assert sum(reason.time_s for reason in found.reasons) <= limit_s
    slow = coefficients(dense_knots=((1.0, 1.0), (2.0, 1.0)))
    reasons = {one.name: one.time_s for one in explain_formula(
        AffineStepTime(slow), own, batch, 1, "scaled", efficiencies()
    ).reasons}  # fmt: skip
    calls = sum(each.calls for name, each in works_of(own, batch).items() if name not in ("lm_head", "sampler"))
    assert reasons["host"] == pytest.approx(efficiencies().step_overhead_s)
    assert reasons["starts"] == pytest.approx((calls - 32) * KERNEL_START_S)  # attention has no time of its own here
    assert sum(reasons.values()) == pytest.approx(1.0 - found.limit_s, rel=1e-2)
