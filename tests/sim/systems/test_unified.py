"""Unified serving: where TTFT goes, what is refused, and that a run can be repeated."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, coefficients, colocated, components, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.record.result import COMPONENTS
from kvsim.sim.systems.unified import UnifiedSystem


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_the_parts_sum_to_ttft_and_none_is_negative(rng: Random) -> None:
    found, requests = random_case(rng)
    table = by_request(served(UnifiedSystem, colocated(found), requests))
    parts_s = np.array([table[name] for name in COMPONENTS])
    assert (parts_s >= 0).all()
    np.testing.assert_allclose(parts_s.sum(axis=0), table["first_token_s"] - table["arrival_s"], rtol=0, atol=1e-9)


def test_queue_is_the_wait_for_a_seat() -> None:
    two = workload([Row(0.0, 16, 3), Row(0.5, 16, 3)])
    one_seat = by_request(served(UnifiedSystem, colocated(plan(max_num_seqs=1)), two))
    assert components(one_seat, 1) == {"queue_s": 2.5, "prefill_s": 1.0}
    two_instances = by_request(served(UnifiedSystem, plan(max_num_seqs=1), two))
    assert components(two_instances, 1) == {"prefill_s": 1.0}


def test_interference_is_the_time_inside_steps_spent_on_others() -> None:
    times = coefficients(p1_s_per_token=0.125)
    two = workload([Row(0.0, 8, 1), Row(0.0, 16, 1)])
    together = by_request(served(UnifiedSystem, colocated(plan(times=times)), two))
    assert components(together, 0) == {"prefill_s": 1.0, "interference_s": 2.0}
    assert components(together, 1) == {"prefill_s": 2.0, "interference_s": 1.0}
    apart = by_request(served(UnifiedSystem, plan(times=times), two))
    assert [components(apart, row) for row in (0, 1)] == [{"prefill_s": 1.0}, {"prefill_s": 2.0}]


def test_a_preempted_prompt_counts_what_it_lost() -> None:
    """Two prompts in chunks of 8 on 7 blocks of 4: the second gives way, and starts again when the first is done."""
    two = workload([Row(0.0, 16, 5), Row(0.0, 20, 1)])
    tight = {"block_size": 4, "max_num_batched_tokens": 20, "long_prefill_token_threshold": 8}
    lost = by_request(served(UnifiedSystem, colocated(plan(num_blocks=7, **tight)), two))
    assert lost["preemptions"].tolist() == [0, 1]
    assert set(components(lost, 1)) == {"prefill_s", "preemption_s"}
    assert sum(components(lost, 1).values()) == lost["first_token_s"][1]
    roomy = by_request(served(UnifiedSystem, colocated(plan(num_blocks=20, **tight)), two))
    assert components(roomy, 1) == {"prefill_s": 3.0}


def test_what_can_never_fit_fails_and_is_counted() -> None:
    system = served(UnifiedSystem, colocated(plan(num_blocks=4)), workload([Row(0.0, 65, 1), Row(0.0, 63, 1)]))
    assert (system.counts.arrived, system.counts.completed, system.counts.failed) == (2, 1, 1)


def test_answers_end_at_the_longest_sequence_the_model_takes() -> None:
    table = by_request(served(UnifiedSystem, colocated(plan(max_model_len=20)), workload([Row(0.0, 16, 50)])))
    assert table["output_tokens"].tolist() == [4]
    assert table["finish_s"].tolist() == [4.0]


def test_requests_spread_over_instances_by_requests_in_flight() -> None:
    table = by_request(served(UnifiedSystem, plan(2, 2), workload([Row(0.0, 16, 9)] * 8)))
    assert np.bincount(table["prefill_instance"].astype(int)).tolist() == [2, 2, 2, 2]
    np.testing.assert_array_equal(table["prefill_instance"], table["decode_instance"])


@pytest.mark.parametrize("router", ["affinity", "two_choices"])
def test_the_same_seed_gives_the_same_table(router: str) -> None:
    found = plan(2, 2, sets=(f"routing.prefill={router}",), block_size=4, num_blocks=30)
    rng = Random(3)
    rows = [Row(i * 0.3, 0, rng.randint(1, 9), ((rng.randrange(3), 12), (-1 - i, 5)), -1 - i) for i in range(60)]
    first, second = (served(UnifiedSystem, found, workload(rows), 5).requests.table() for _ in range(2))
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)


def test_another_seed_draws_other_choices() -> None:
    found = plan(2, 2, sets=("routing.prefill=two_choices",))
    rows = workload([Row(i * 0.3, 16, 5) for i in range(60)])
    chosen = [by_request(served(UnifiedSystem, found, rows, seed))["prefill_instance"].tolist() for seed in (1, 2)]
    assert chosen[0] != chosen[1]


def test_no_request_at_all_is_a_run() -> None:
    assert served(UnifiedSystem, colocated(plan()), workload([])).counts.arrived == 0


def test_data_parallel_engines_get_requests_by_what_waits_and_runs() -> None:
    """Round robin would send the third to the first engine, which still runs."""
    rows = [Row(0.0, 16, 9), Row(0.0, 16, 1), Row(4.5, 16, 9)]
    sets = ("routing.prefill=round_robin",)
    alternating = by_request(served(UnifiedSystem, plan(sets=sets), workload(rows)))
    assert alternating["prefill_instance"].tolist() == [0, 1, 0]
    balanced = by_request(served(UnifiedSystem, plan(sets=(*sets, "engine.data_parallel_size=2")), workload(rows)))
    assert balanced["prefill_instance"].tolist() == [0, 1, 1]
    rows = [*(Row(0.0, 16, 9) for _ in range(2)), *(Row(0.5, 16, 9) for _ in range(4)), Row(0.5, 16, 1)]
    full = plan(sets=("routing.prefill=round_robin", "engine.data_parallel_size=2"), max_num_seqs=1)
    table = by_request(served(UnifiedSystem, full, workload(rows)))
    assert table["prefill_instance"].tolist() == [0, 1, 0, 1, 0, 1, 0]
