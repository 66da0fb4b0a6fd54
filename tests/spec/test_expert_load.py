"""The fullest GPU's share of tokens: as placed, as drawn, and as rebalanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.spec.expert_load import in_order, measured_factor, power_law_factor, rebalance


def test_experts_stand_on_gpus_in_their_order() -> None:
    assert measured_factor([3, 1, 1, 1], 0, 2, rebalanced=False) == pytest.approx(4 / 3)
    assert in_order(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 2).tolist() == [6.0, 9.0]


def test_rebalanced_the_heaviest_go_to_the_gpu_with_least() -> None:
    """5 + 1 and 4 + 2 instead of 5 + 4 and 2 + 1; each GPU holds as many."""
    assert measured_factor([5, 4, 2, 1], 0, 2, rebalanced=False) == pytest.approx(1.5)
    assert measured_factor([5, 4, 2, 1], 0, 2, rebalanced=True) == pytest.approx(1.0)
    assert sorted(rebalance(np.array([9.0, 1.0, 1.0, 1.0]), 4, 2).tolist()) == [2.0, 10.0]


def test_copies_go_to_who_has_most_to_do() -> None:
    """Two copies of 6 each do 3, beside 2 and 1 and 1, 1: 3 + 1 + 1 and 3 + 2 is as even as 10 gets."""
    assert measured_factor([6, 2, 1, 1], 2, 2, rebalanced=True) == pytest.approx(1.0)
    assert measured_factor([6, 2, 1, 1], 0, 2, rebalanced=True) == pytest.approx(7 / 5)


def test_a_power_law_of_exponent_0_is_uniform_and_a_steeper_one_is_worse() -> None:
    found = [power_law_factor(exponent, 128, 0, 8, rebalanced=False) for exponent in (0.0, 0.5, 1.0, 1.5)]
    assert found[0] == pytest.approx(1.0)
    assert found == sorted(found)
    assert power_law_factor(1.0, 128, 0, 8, rebalanced=True) < found[2]
    assert power_law_factor(1.0, 128, 32, 8, rebalanced=True) < 1.02


def test_the_mean_over_orders_of_two_experts_is_known() -> None:
    """Of 1, 1/2 and nothing else the fullest of two GPUs has 2/3, whichever order: 4/3 of the mean."""
    assert power_law_factor(1.0, 2, 0, 2, rebalanced=False) == pytest.approx(4 / 3)


@given(st.lists(st.integers(1, 1000), min_size=8, max_size=8), st.sampled_from([0, 4, 8]), st.sampled_from([2, 4]))
def test_rebalancing_keeps_all_tokens_and_no_order_matters(shares: list[int], redundant: int, gpus: int) -> None:
    loads = rebalance(np.array(shares, dtype=np.float64), 8 + redundant, gpus)
    assert loads.sum() == pytest.approx(sum(shares))
    again = rebalance(np.array(shares[::-1], dtype=np.float64), 8 + redundant, gpus)
    assert np.sort(again) == pytest.approx(np.sort(loads))
    assert 1 - 1e-12 <= measured_factor(shares, redundant, gpus, rebalanced=True) <= gpus
