"""The timeline of a run: what adds up over its bins is the run's, bin by bin what a calculation by hand gives."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, coefficients, plan, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.binned import crossings, integrals, totals
from kvsim.record.detail import Detail
from kvsim.record.timeline import edges_s, sums
from kvsim.sim.run import SYSTEMS, Case, run


@given(st.randoms(use_true_random=False))
def test_nothing_is_lost_between_bins(rng: Random) -> None:
    found, requests = random_case(rng)
    for system in SYSTEMS:
        result = run(Case(system, system, found, requests, 1, keeps_detail=True)).system
        detail, table = result.detail, result.table
        assert detail is not None
        by_bin = sums(detail)
        assert by_bin["output_tokens"].sum() == pytest.approx(table["output_tokens"].sum(), abs=1e-6)
        assert by_bin["busy_s"].sum() == pytest.approx((detail.steps["end_s"] - detail.steps["start_s"]).sum())
        for name in ("prefill_tokens", "query_tokens", "hit_tokens"):
            assert by_bin[name].sum() == detail.steps[name].sum()
        edges = edges_s(detail, result.end_s)
        assert edges[0] == 0.0 and edges[-1] == pytest.approx(result.end_s)
        assert np.all(by_bin["busy_s"] <= np.diff(edges) * (1 + 1e-9) + 1e-12)
        assert all(np.all(values >= 0) for values in by_bin.values())


@given(st.randoms(use_true_random=False))
def test_tokens_of_a_leap_lie_where_its_steps_end(rng: Random) -> None:
    """Steps that grow longer, against each of them by itself."""
    # No step of these ends at an edge of a bin, where rounding would decide.
    times = coefficients(w0_s=rng.randint(1, 20) * math.pi / 100, a_s_per_kv_token=rng.choice([0.0, 1e-3 * math.pi]))
    found = replace(plan(times=times, block_size=4, num_blocks=500), num_instances=1)
    result = run(
        Case("unified", "unified", found, workload([Row(0.0, 5, rng.randint(2, 400))]), 1, keeps_detail=True)
    ).system
    detail = result.detail
    assert detail is not None
    steps = detail.steps
    ends_s = [
        start + k * first + slope * k * (k - 1) / 2
        for start, first, slope, number in zip(
            steps["start_s"], steps["first_step_s"], steps["slope_s"], steps["num_steps"], strict=True
        )
        for k in range(1, int(number) + 1)
    ]
    expected = np.histogram(ends_s, np.append(edges_s(detail, result.end_s)[:-1], np.inf))[0]
    assert sums(detail)["output_tokens"][0].tolist() == expected.tolist()


def test_bins_by_hand() -> None:
    start_s, end_s = np.array([0.0, 1.5, 4.0]), np.array([2.5, 1.75, 6.0])
    assert [pair.tolist() for pair in crossings(start_s, end_s, 1.0, 6)] == [
        [0, 0, 0, 1, 2, 2],
        [0, 1, 2, 1, 4, 5],
    ]
    found = integrals(np.array([0, 1, 0]), start_s, end_s, np.array([2.0, 8.0, 1.0]), 1.0, (2, 6))
    assert found.tolist() == [[2, 2, 1, 0, 1, 1], [0, 2, 0, 0, 0, 0]]
    summed = totals(np.array([0, 0, 1]), np.array([0.0, 6.0, 3.0]), np.array([1.0, 2.0, 4.0]), 1.0, (2, 6))
    assert summed.tolist() == [[1, 0, 0, 0, 0, 2], [0, 0, 0, 4, 0, 0]]


def test_a_run_of_nothing() -> None:
    detail = Detail(
        instances=(),
        tiers=(),
        steps={},
        chunks={},
        gaps={},
        transfers={},
        loads={},
        served={},
        bin_s=1.0,
        levels=np.zeros((2, 0, 1)),
    )
    assert edges_s(detail, 0.0).tolist() == [0.0, 0.0]
