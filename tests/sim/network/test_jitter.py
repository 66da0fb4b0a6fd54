"""Jitter: mean, variation and tails as asked for, nothing at all when off."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.sim.network.jitter import Jitter


def drawn(cv: float, tail_prob: float, tail_multiplier: float, num: int = 200_000) -> np.ndarray:
    jitter = Jitter(cv, tail_prob, tail_multiplier, np.random.default_rng(1))
    return np.array([jitter.factor() for _ in range(num)])


def test_off_draws_nothing() -> None:
    generator = np.random.default_rng(1)
    jitter = Jitter(0.0, 0.0, 4.0, generator)
    assert {jitter.factor() for _ in range(10)} == {1.0}
    assert generator.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize("cv", [0.1, 0.25, 1.0])
def test_mean_one_and_the_variation_asked_for(cv: float) -> None:
    factors = drawn(cv, 0.0, 1.0)
    assert factors.mean() == pytest.approx(1.0, abs=4 * cv / np.sqrt(len(factors)))
    assert factors.std() == pytest.approx(cv, rel=0.03)


def test_a_share_takes_many_times_as_long() -> None:
    factors = drawn(0.0, 0.02, 4.0)
    assert set(np.unique(factors)) == {1.0, 4.0}
    assert np.mean(factors == 4.0) == pytest.approx(0.02, abs=0.001)


def test_the_order_of_transfers_decides_alone() -> None:
    np.testing.assert_array_equal(drawn(0.3, 0.1, 2.0, 10_000)[:5_000], drawn(0.3, 0.1, 2.0, 5_000))
