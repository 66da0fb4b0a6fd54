"""Step times from tables: interpolation by hand, spans against their steps, the fitted formula against a known one."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients
from hypothesis import given
from hypothesis import strategies as st
from step_tables import SMALL, random_tables, table_times

from kvsim.steptime import ENDLESS, AffineStepTime, Coefficients
from kvsim.steptime.curves.affine import Line
from kvsim.steptime.curves.coefficients import extended
from kvsim.steptime.curves.tables import Tables, TableStepTime
from kvsim.steptime.fit import fitted, thinned


def test_a_decode_step_is_read_between_what_was_measured() -> None:
    # Two sequences stand midway between the rows; a mean context of 4 midway between 2 and 6.
    first_s, slope_s, steps = table_times().decode_span(2, 8, 5)
    attention_s = (0.5 * (1 + 2) + 0.5 * (3 + 4)) / 2
    straggle_s = 0.1 * (5 - 4)
    assert first_s == pytest.approx(1.5 + 0.3125 + attention_s + straggle_s)
    assert slope_s == pytest.approx(1 / 4)
    assert steps == 3  # contexts of 4, 5 and 6
    assert table_times().decode_span(2, 14, 7)[2] == ENDLESS


def test_a_mixed_step_adds_up() -> None:
    steps = table_times()
    work_s = steps.chunk_work(3, 5)
    assert work_s == pytest.approx((0.5 + 1.5 + 2.5 + 7.5) / 4 - 0.5)
    time_s = steps.mixed_s(5, 3, 2, 8, 5, work_s)
    beside_s = (3.0 + 6.0) / 2
    assert time_s == pytest.approx(6.0 + 0.375 + 0.5 + work_s + beside_s + 0.2 * (5 - 4))


def test_a_chunk_beyond_the_measured_ones_is_cut_into_parts() -> None:
    steps = table_times()
    assert steps.chunk_work(8, 0) == pytest.approx(steps.chunk_work(5, 0) + steps.chunk_work(3, 5))


def test_captured_sizes_pad_the_dense_part() -> None:
    exact, padded = table_times(), table_times(sizes=(1, 2, 4, 8))
    assert padded.decode_span(3, 12, 4)[0] - exact.decode_span(3, 12, 4)[0] == pytest.approx(4.0 - 2.0)
    assert padded.decode_span(2, 8, 4) == exact.decode_span(2, 8, 4)


@given(st.integers(0, 1 << 30), st.integers(1, 6), st.integers(0, 20), st.integers(0, 30))
def test_a_span_is_the_sum_of_its_steps(seed: int, decodes: int, context: int, excess: int) -> None:
    steps = table_times(random_tables(random.Random(seed)))
    kv_tokens, longest = decodes * context + excess % decodes + 1, context + 1 + excess
    first_s, slope_s, limit = steps.decode_span(decodes, kv_tokens, longest)
    for step in range(min(limit, 25)):
        there_s, _, _ = steps.decode_span(decodes, kv_tokens + step * decodes, longest + step)
        assert there_s == pytest.approx(first_s + step * slope_s, rel=1e-9)


FAR = st.integers(1, 100_000)


@given(st.integers(0, 1 << 30), FAR, FAR, FAR, FAR)
def test_nothing_that_falls_where_it_was_measured_goes_below_that_beyond(
    seed: int, chunk: int, prefix: int, decodes: int, context: int
) -> None:
    """Rows of random tables cross; extrapolated, decodes once took seconds away from the prompts beside them."""
    tables = random_tables(random.Random(seed))
    falling = replace(tables, decode_s=[row[::-1] for row in tables.decode_s], dense=((1.0, 2.0), (9.0, 1.0)))
    for steps in (table_times(tables), table_times(falling)):
        work_s = steps.chunk_work(chunk, prefix) + steps.tables.launch_s
        assert work_s >= 0
        alone_s = steps.mixed_s(chunk, 1, 0, 0, 0, work_s)
        dense_s, head_s = (min(time_s for _, time_s in knots) for knots in (steps.tables.dense, steps.tables.head))
        assert alone_s >= dense_s + head_s + work_s
        both_s = steps.mixed_s(chunk + decodes, 1, decodes, decodes * context, context, work_s)
        assert both_s >= dense_s + head_s + work_s
        first_s, slope_s, limit = steps.decode_span(decodes, decodes * context, context)
        assert first_s >= dense_s + head_s
        assert slope_s >= 0 or (limit < ENDLESS and first_s + (limit - 1) * slope_s >= dense_s + head_s)


def test_knots_that_fall_stay_where_they_end() -> None:
    knots = ((4.0, 3.0), (8.0, 5.0), (16.0, 1.0))
    places = [1.0, 3.0, 6.0, 12.0, 16.0, 100.0]
    assert [Line(knots).at(place) for place in places] == [1.5, 2.5, 4.0, 3.0, 1.0, 1.0]
    assert Line(((16.0, 1.0), (32.0, 2.5))).at(1.0) == 0.0
    for one in (knots, ((16.0, 1.0), (32.0, 2.5))):
        assert extended(np.array(places), one).tolist() == [Line(one).at(place) for place in places]


@given(st.floats(0.1, 10.0))
def test_scaled_tables_scale_every_step(factor: float) -> None:
    one, other = table_times(), table_times(SMALL.scaled(factor))
    assert other.decode_span(2, 9, 5)[0] == pytest.approx(factor * one.decode_span(2, 9, 5)[0])
    ours_s = other.mixed_s(5, 3, 2, 8, 5, other.chunk_work(3, 5))
    assert ours_s == pytest.approx(factor * one.mixed_s(5, 3, 2, 8, 5, one.chunk_work(3, 5)))


TRUTH = coefficients(
    a_s_per_kv_token=4e-8,
    a_mixed_s_per_kv_token=6e-8,
    b_s_per_token2=1e-9,
    prefill_chunk_floor_tokens=256,
    s_s_per_seq=2e-6,
    const_s=7e-4,
    decode_s_per_seq=5e-6,
    decode_mixed_s_per_seq=9e-6,
    decode_mixed_s_per_seq_token=1e-8,
)


def tables_of(truth: Coefficients) -> Tables:
    """What operators would measure if the formula were true."""
    launch_s = 4e-4
    seqs, contexts, chunks = [1.0, 8.0, 64.0, 256.0], [16.0, 512.0, 4096.0], [16.0, 256.0, 2048.0]
    work = [[max(c, 256.0) * (p + c / 2) for p in (0.0, 4096.0)] for c in chunks]
    a, d = truth.a_s_per_kv_token, truth.decode_s_per_seq
    mixed = truth.a_mixed_s_per_kv_token, truth.decode_mixed_s_per_seq, truth.decode_mixed_s_per_seq_token

    def beside_s(n: float, k: float, c: float) -> float:
        return mixed[0] * n * k + mixed[1] * n + mixed[2] * n * c

    return Tables(
        dense=((1.0, 0.006), (256.0, 0.008), (2048.0, 0.04)),
        head=((1.0, 3e-4 + truth.s_s_per_seq), (256.0, 3e-4 + 256 * truth.s_s_per_seq)),
        prefill_chunks=chunks,
        prefill_prefixes=[0.0, 4096.0],
        prefill_s=[[launch_s + truth.b_s_per_token2 * value for value in row] for row in work],
        decode_seqs=seqs,
        decode_contexts=contexts,
        decode_s=[[launch_s + a * n * k + d * n for k in contexts] for n in seqs],
        mixed_chunks=chunks,
        mixed_s=[[[beside_s(n, k, c) for k in contexts] for n in seqs] for c in chunks],
        launch_s=launch_s,
        straggler_s_per_token=0.0,
        straggler_min_seqs=38,
        straggler_mixed_s_per_token=0.0,
    )


def test_a_formula_is_found_again_in_the_tables_it_makes() -> None:
    found = fitted(tables_of(TRUTH))
    for name in ("a_s_per_kv_token", "decode_s_per_seq", "a_mixed_s_per_kv_token", "b_s_per_token2", "s_s_per_seq"):
        assert getattr(found, name) == pytest.approx(getattr(TRUTH, name), rel=1e-3), name
    assert found.decode_mixed_s_per_seq_token == pytest.approx(1e-8, rel=1e-3)
    assert found.const_s == pytest.approx(7e-4, rel=1e-3)
    exact, formula = TableStepTime(tables_of(TRUTH), found), AffineStepTime(found)
    expected_s = exact.decode_span(100, 100_000, 1000)[0]
    assert formula.decode_span(100, 100_000, 1000)[0] == pytest.approx(expected_s, rel=1e-3)


def test_knots_that_say_most_are_kept() -> None:
    knots = tuple((float(x), 1.0 if x <= 50 else 1.0 + (x - 50) * 0.1) for x in range(1, 101))
    kept = thinned(knots, 4)
    assert (1.0, 1.0) in kept
    assert (50.0, 1.0) in kept
    np.testing.assert_allclose(extended(np.array([25.0, 75.0]), kept), [1.0, 3.5])


def test_the_formula_with_knots_is_what_its_line_says() -> None:
    knotted = replace(TRUTH, dense_knots=((1.0, 0.006), (101.0, 0.008)))
    first_s, slope_s, steps = AffineStepTime(knotted).decode_span(51, 5100, 100)
    assert first_s == pytest.approx(0.007 + 7e-4 + 51 * (2e-6 + 5e-6) + 4e-8 * 5100)
    assert (slope_s, steps) == (pytest.approx(51 * 4e-8), ENDLESS)
    assert knotted.scaled(2.0).dense_knots == ((1.0, 0.012), (101.0, 0.016))
    assert float(knotted.dense_s(np.array([51.0]))[0]) == pytest.approx(0.007 + 7e-4)
