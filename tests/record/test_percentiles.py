import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.percentiles import PERCENTS, distribution, percentiles

values = st.lists(st.floats(0, 1e3), min_size=1, max_size=30)


def test_percentiles_interpolate_linearly_between_closest_ranks():
    assert percentiles(np.array([3.0, 1.0, 2.0, 4.0]), [0, 50, 75, 100]).tolist() == [1.0, 2.5, 3.25, 4.0]


def test_distribution_of_a_known_sample():
    found = distribution(np.arange(101.0))
    assert (found.count, found.mean, found.p50, found.p90, found.p95, found.p99, found.max) == (
        101,
        50.0,
        50.0,
        90.0,
        95.0,
        99.0,
        100.0,
    )


@pytest.mark.parametrize("weights", [None, np.array([])])
def test_an_empty_sample_has_no_figures(weights):
    found = distribution(np.array([]), weights)
    assert found.count == 0
    assert all(math.isnan(x) for x in (found.mean, found.p50, found.p90, found.p95, found.p99, found.max))


def test_zero_weights_alone_are_an_empty_sample():
    assert distribution(np.array([7.0]), np.array([0.0])).count == 0
    assert np.isnan(percentiles(np.array([7.0]), [50], np.array([0.0]))).all()


@given(values, st.data())
def test_weights_mean_repetition(sample, data):
    weights = data.draw(st.lists(st.integers(0, 5), min_size=len(sample), max_size=len(sample)).filter(any))
    array = np.array(sample)
    repeated = np.repeat(array, weights)
    found, expected = distribution(array, np.array(weights, dtype=float)), distribution(repeated)
    assert found.count == repeated.size
    assert found.max == expected.max
    assert found.mean == pytest.approx(expected.mean, rel=1e-12, abs=1e-12)
    assert percentiles(array, PERCENTS, np.array(weights)) == pytest.approx(
        percentiles(repeated, PERCENTS), rel=1e-12, abs=1e-12
    )
