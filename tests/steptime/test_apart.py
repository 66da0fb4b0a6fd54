"""Steps whose sequences do not slow each other down."""

from __future__ import annotations

import pickle

import pytest
from builders import Row, by_request, coefficients, colocated, components, plan, served, workload

from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.apart import ApartStepTime

OWN = AffineStepTime(coefficients(p1_s_per_token=0.125, a_s_per_kv_token=0.25, const_s=1.0))
APART = ApartStepTime(OWN)


def test_a_step_takes_what_the_longest_in_it_takes_alone() -> None:
    work = APART.chunk_work(8, 0) + APART.chunk_work(24, 0) + APART.chunk_work(16, 0)
    assert APART.mixed_s(48, 3, 0, 0, 0, work) == OWN.prefill_alone_s(24, 0) == 4.0
    assert APART.mixed_s(2, 2, 2, 60, 40, 0.0) == OWN.decode_alone_s(40)
    work = APART.chunk_work(8, 0)
    assert APART.mixed_s(10, 3, 2, 60, 40, work) == OWN.decode_alone_s(40) > OWN.prefill_alone_s(8, 0)


def test_what_one_takes_alone_is_no_other() -> None:
    APART.chunk_work(400, 0)
    assert APART.prefill_alone_s(8, 4) == OWN.prefill_alone_s(8, 4) and APART.decode_alone_s(9) == OWN.decode_alone_s(9)
    assert APART.mixed_s(400, 1, 0, 0, 0, 0.0) == OWN.prefill_alone_s(400, 0)
    assert APART.decode_span(5, 90, 30) == OWN.decode_span(1, 30, 30) and APART.needs_longest


def test_it_goes_to_other_processes() -> None:
    found = pickle.loads(pickle.dumps(APART))
    assert found.decode_span(1, 30, 30) == APART.decode_span(1, 30, 30)


@pytest.mark.parametrize("stepwise", [False, True])
def test_two_equal_prompts_in_a_step_take_what_one_takes(stepwise: bool) -> None:
    times = coefficients(p1_s_per_token=0.5)
    as_it_is = colocated(plan(times=times, block_size=4, num_blocks=40, stepwise=stepwise))
    rows = workload([Row(0.0, 8, 3), Row(0.0, 8, 3)])
    slow = by_request(served(UnifiedSystem, as_it_is, rows))
    assert components(slow, 0) == components(slow, 1) == {"prefill_s": 4.0, "interference_s": 4.0}
    fast = by_request(served(UnifiedSystem, as_it_is.with_instances(step_time=ApartStepTime(as_it_is.step_time)), rows))
    assert components(fast, 0) == components(fast, 1) == {"prefill_s": 4.0}
