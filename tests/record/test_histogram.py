import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvsim.record.histogram import RELATIVE_WIDTH, WeightedHistogram
from kvsim.record.percentiles import PERCENTS, distribution, percentiles

segments = st.lists(
    st.tuples(
        st.floats(1e-6, 10.0),
        st.one_of(st.just(0.0), st.floats(1e-12, 1e-6), st.floats(1e-6, 5.0)),
        st.integers(0, 300),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=12,
)


def collect(*batches):
    histogram = WeightedHistogram()
    for rows in batches:
        histogram.add_segments(np.array(rows, dtype=float).reshape(-1, 4))
    return histogram.distribution()


def expand(rows):
    parts = [np.repeat(first + slope * np.arange(count), weight) for first, slope, count, weight in rows]
    return np.concatenate(parts) if parts else np.array([])


def test_nothing_collected_gives_nan():
    found = collect([])
    assert found.count == 0 and math.isnan(found.mean) and math.isnan(found.p99) and math.isnan(found.max)


def test_one_segment_exactly():
    found = collect([(0.010, 0.001, 11, 3)])
    assert found.count == 33
    assert found.mean == pytest.approx(0.015, rel=1e-12)
    assert found.max == pytest.approx(0.020, rel=1e-12)
    assert found.p50 == pytest.approx(0.015, rel=RELATIVE_WIDTH)


def test_a_constant_latency_is_exact_at_every_percentile():
    found = collect([(0.025, 0.0, 1000, 64), (0.025, 0.0, 1, 7)])
    assert found.count == 64_007
    assert {found.p50, found.p90, found.p95, found.p99, found.max} == {0.025}
    assert found.mean == pytest.approx(0.025, rel=1e-12)


def test_empty_segments_say_nothing():
    assert collect([(5.0, 1.0, 0, 9), (9.0, 1.0, 9, 0), (0.5, 0.0, 2, 1)]) == collect([(0.5, 0.0, 2, 1)])


def test_a_falling_segment_is_its_reverse():
    falling, rising = collect([(0.020, -0.001, 11, 2)]), collect([(0.010, 0.001, 11, 2)])
    assert (falling.count, falling.p50, falling.p99) == (rising.count, rising.p50, rising.p99)
    assert falling.max == pytest.approx(rising.max, rel=1e-12)


def test_latencies_outside_the_range_stay_within_the_exact_extremes():
    found = collect([(0.0, 0.0, 10, 1)])
    assert (found.count, found.p50, found.max) == (10, 0.0, 0.0)
    found = collect([(2e4, 1e4, 3, 1)])
    assert (found.mean, found.max) == (3e4, 4e4)
    assert 2e4 <= found.p50 <= 4e4


@given(segments)
@example([(1e-3, 5.0, 2, 1)])
@example([(0.03, 1e-7, 300, 7), (0.03, 0.0, 300, 7)])
def test_agrees_with_the_expanded_sample(rows):
    sample = expand(rows)
    found, expected = collect(rows), distribution(sample)
    assert found.count == expected.count
    if sample.size:
        assert found.mean == pytest.approx(expected.mean, rel=1e-9)
        assert found.max == pytest.approx(expected.max, rel=1e-12)
        shown = [found.p50, found.p90, found.p95, found.p99]
        assert shown == pytest.approx(percentiles(sample, PERCENTS), rel=RELATIVE_WIDTH)


@given(segments, st.integers(0, 12))
def test_batches_add_up(rows, cut):
    whole, parts = collect(rows), collect(rows[:cut], rows[cut:])
    assert (whole.count, whole.p50, whole.p99, whole.max) == (parts.count, parts.p50, parts.p99, parts.max)


def test_long_segments_beyond_one_slice():
    """Three segments of two million latencies and 4,000 of 700: more than is ever expanded at once."""
    rows = [(0.02, 1e-9, 2_000_000, 1)] * 3 + [(0.01, 1e-4, 700, 2)] * 4000
    sample = np.concatenate([expand(rows[:1]).repeat(3), expand(rows[3:4]).repeat(4000)])
    found = collect(rows)
    assert found.count == sample.size
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx(percentiles(sample, PERCENTS), rel=2e-3)
    assert found.mean == pytest.approx(sample.mean(), rel=1e-9)
