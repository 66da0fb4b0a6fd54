"""Step times against the written-out formula, spans of steps against the sum of their steps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients
from hypothesis import given
from hypothesis import strategies as st

from kvsim.steptime import AffineStepTime, span_s
from kvsim.steptime.curves.base import steps_until

FULL = coefficients(
    w0_s=0.010,
    w1_s_per_token=2e-5,
    p0_s=0.001,
    p1_s_per_token=6e-5,
    a_s_per_kv_token=3e-8,
    a_mixed_s_per_kv_token=5e-8,
    straggler_s_per_token=1e-6,
    straggler_min_seqs=2,
    b_s_per_token2=1e-9,
    prefill_chunk_floor_tokens=256,
    s_s_per_seq=2e-6,
    comm0_s=0.0005,
    comm1_s_per_token=1e-7,
    const_s=0.0007,
)

seconds = st.floats(1e-6, 10.0)


def test_a_decode_step_is_the_formula() -> None:
    first_s, slope_s, _ = AffineStepTime(FULL).decode_span(4, 10_000, 4_000)
    dense_s = max(0.010 + 4 * 2e-5, 0.001 + 4 * 6e-5)
    straggle_s = 1e-6 * (4_000 - 2_500)
    expected_s = dense_s + 3e-8 * 10_000 + straggle_s + 4 * 2e-6 + 0.0005 + 4 * 1e-7 + 0.0007
    assert first_s == pytest.approx(expected_s, rel=1e-12)
    assert slope_s == pytest.approx(4 * 3e-8, rel=1e-12)


def test_a_mixed_step_is_the_formula() -> None:
    steps = AffineStepTime(FULL)
    work = steps.chunk_work(1000, 500) + steps.chunk_work(10, 0)
    assert work == 1000 * (500 + 500) + 256 * 5
    time_s = steps.mixed_s(1013, 5, 3, 9_000, 3_000, work)
    dense_s = max(0.010 + 1013 * 2e-5, 0.001 + 1013 * 6e-5)
    expected_s = dense_s + 1e-9 * work + 5e-8 * 9_000 + 5 * 2e-6 + 0.0005 + 1013 * 1e-7 + 0.0007
    assert time_s == pytest.approx(expected_s, rel=1e-12)


def test_stragglers_count_from_a_batch_size_on() -> None:
    steps = AffineStepTime(FULL)
    assert steps.needs_longest
    alone_s, _, _ = steps.decode_span(1, 100, 100_000)
    assert alone_s < 0.02 < steps.decode_span(2, 100, 100_000)[0]
    assert not AffineStepTime(coefficients(const_s=1.0)).needs_longest


def test_a_step_alone_is_a_mixed_step_of_one() -> None:
    steps = AffineStepTime(FULL)
    assert steps.prefill_alone_s(300, 40) == steps.mixed_s(300, 1, 0, 0, 0, steps.chunk_work(300, 40))
    assert steps.decode_alone_s(77) == steps.decode_span(1, 77, 77)[0]


@given(st.integers(1, 300), st.integers(1, 10**6), st.integers(1, 50))
def test_the_slope_is_what_a_step_adds(decodes: int, kv_tokens: int, later: int) -> None:
    steps = AffineStepTime(FULL)
    longest = kv_tokens
    first_s, slope_s, _ = steps.decode_span(decodes, kv_tokens, longest)
    after_s, _, _ = steps.decode_span(decodes, kv_tokens + later * decodes, longest + later)
    assert after_s == pytest.approx(first_s + later * slope_s, rel=1e-9)


def test_scaling_multiplies_times_and_nothing_else() -> None:
    twice = FULL.scaled(2.0)
    assert twice.w0_s == 0.020
    assert (twice.straggler_min_seqs, twice.prefill_chunk_floor_tokens) == (2, 256)
    one, two = AffineStepTime(FULL), AffineStepTime(twice)
    assert two.decode_span(9, 5000, 900)[0] == pytest.approx(2 * one.decode_span(9, 5000, 900)[0])
    assert two.prefill_alone_s(700, 9) == pytest.approx(2 * one.prefill_alone_s(700, 9))


@given(st.integers(0, 2000), seconds, st.floats(0.0, 1.0))
def test_a_span_is_the_sum_of_its_steps(steps: int, first_s: float, slope_s: float) -> None:
    expected_s = math.fsum(first_s + i * slope_s for i in range(steps))
    assert span_s(steps, first_s, slope_s) == pytest.approx(expected_s, rel=1e-9, abs=1e-12)


@given(st.data(), seconds, st.sampled_from([0.0, 1e-9, 1e-3, 0.5]), st.integers(0, 50), st.integers(1, 60))
def test_steps_until_is_the_first_boundary_at_or_after(
    data: st.DataObject, first_s: float, slope_s: float, done: int, limit: int
) -> None:
    anchor_s = data.draw(st.floats(0.0, 1e5))
    boundaries = [anchor_s + span_s(done + k, first_s, slope_s) for k in range(limit + 1)]
    until_s = data.draw(st.sampled_from(boundaries) | st.floats(boundaries[0], boundaries[-1]))
    expected = next((k for k in range(1, limit + 1) if boundaries[k] >= until_s), limit)
    assert steps_until(until_s, anchor_s, done, limit, first_s, slope_s) == expected


def test_captured_sizes_pad_the_tokens_of_a_step_and_nothing_else() -> None:
    exact, padded = AffineStepTime(FULL), AffineStepTime(FULL, (1, 2, 4, 8, 16))
    per_token_s = 2e-5 + 1e-7
    assert padded.decode_span(8, 9_000, 2_000) == exact.decode_span(8, 9_000, 2_000)
    first_s, slope_s, _ = padded.decode_span(9, 9_000, 2_000)
    assert first_s - exact.decode_span(9, 9_000, 2_000)[0] == pytest.approx(7 * per_token_s)
    assert slope_s == exact.decode_span(9, 9_000, 2_000)[1]
    assert padded.decode_span(17, 9_000, 2_000) == exact.decode_span(17, 9_000, 2_000)
    assert padded.mixed_s(5, 2, 0, 0, 0, 0.0) - exact.mixed_s(5, 2, 0, 0, 0, 0.0) == pytest.approx(3 * per_token_s)


WINDOWED = replace(FULL, window_share=0.25, window_tokens=300)


@given(st.integers(1, 40), st.integers(1, 30_000), st.integers(0, 2_000))
def test_a_window_is_the_mean_context_cut(decodes: int, kv_tokens: int, later: int) -> None:
    """Spans end where the window is full, and their steps are those of single steps."""
    steps = AffineStepTime(WINDOWED)

    def step_s(kv_tokens: int) -> float:
        cut = 0.25 * max(kv_tokens - decodes * 300, 0)
        whole_s, _, _ = AffineStepTime(FULL).decode_span(decodes, kv_tokens, 0)
        return whole_s - FULL.a_s_per_kv_token * cut

    first_s, slope_s, limit = steps.decode_span(decodes, kv_tokens, 0)
    assert limit >= 1
    assert first_s == pytest.approx(step_s(kv_tokens), rel=1e-12)
    within = min(later, limit - 1)
    assert first_s + within * slope_s == pytest.approx(step_s(kv_tokens + within * decodes), rel=1e-9)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=5), st.integers(0, 600))
def test_chunks_look_at_the_same_as_the_whole_prompt(chunks: list[int], prefix: int) -> None:
    steps = AffineStepTime(replace(WINDOWED, prefill_chunk_floor_tokens=0))
    total, at = 0.0, prefix
    for chunk in chunks:
        total += steps.chunk_work(chunk, at)
        at += chunk
    places = np.arange(prefix, at) + 0.5
    assert total == pytest.approx(float((0.75 * places + 0.25 * np.minimum(places, 300)).sum()), rel=1e-3, abs=0.2)
    assert total == pytest.approx(steps.chunk_work(sum(chunks), prefix), rel=1e-9)
    sizes = np.array(chunks, dtype=float)
    prefixes = prefix + np.cumsum(sizes) - sizes
    found = steps.coefficients.attention_work(sizes, prefixes)
    assert float(found.sum()) == pytest.approx(total, rel=1e-9)


@given(st.integers(1, 9), st.integers(1, 5_000))
def test_a_mixed_step_reads_inside_the_window_too(decodes: int, kv_tokens: int) -> None:
    whole_s = AffineStepTime(FULL).mixed_s(50 + decodes, 1 + decodes, decodes, kv_tokens, kv_tokens, 0.0)
    cut = 0.25 * max(kv_tokens - decodes * 300, 0)
    found_s = AffineStepTime(WINDOWED).mixed_s(50 + decodes, 1 + decodes, decodes, kv_tokens, kv_tokens, 0.0)
    assert found_s == pytest.approx(whole_s - FULL.a_mixed_s_per_kv_token * cut, rel=1e-12)
    assert WINDOWED.read_tokens(kv_tokens / decodes) * decodes == pytest.approx(kv_tokens - cut)
