"""Two runs of the same requests: who differs first, and in what; who moved most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload

from kvsim.difference.requests import FACTS, apart, is_same
from kvsim.plan.plan import Plan
from kvsim.record.result import COLUMNS, SystemResult
from kvsim.sim.executor import Serial, whole
from kvsim.sim.run import Case

TIMES = coefficients(p1_s_per_token=0.125, const_s=0.5)
ROWS = workload([Row(2.0 * i, 8, 3) for i in range(6)])


def run(made: Plan, requests: object = ROWS) -> SystemResult:
    (found,) = whole(Serial().run([Case("pd", "pd", made, requests, 1)]))  # type: ignore[arg-type]
    return found


def made(**given: object) -> Plan:
    return plan(times=TIMES, block_size=4, num_blocks=60, **given)


def changed(result: SystemResult, request: int, **facts: float) -> SystemResult:
    """``result`` with other facts of one request."""
    row = int(np.nonzero(result.table["request_id"] == request)[0][0])
    table = {name: column.copy() for name, column in result.table.items()}
    for name, value in facts.items():
        table[name][row] = value
    return replace(result, table=table)


def test_a_run_with_itself_is_identical() -> None:
    one = run(made())
    found = apart(one, run(made()), 5)
    assert is_same(one, one) and (found.differing, found.first, found.earliest, found.moved) == (0, None, None, ())


def test_rounding_is_no_difference() -> None:
    one = run(made())
    other = changed(one, 2, finish_s=float(one.table["finish_s"][0]))
    assert not is_same(one, other)
    finish_s = float(one.table["finish_s"][one.table["request_id"] == 2][0])
    assert is_same(one, changed(one, 2, finish_s=finish_s * (1 + 1e-13)))


def test_half_the_bandwidth_is_seen_in_the_transfer() -> None:
    """8,000 bytes take 0.8 s at 10,000 bytes/s and 1.6 s at half of that."""
    one, other = run(made(nic_bytes_per_s=1e4)), run(made(nic_bytes_per_s=5e3))
    first = apart(one, other, 3).first
    assert first is not None and (first.request_id, first.fact) == (0, "transfer_s")
    assert (first.a, first.b) == pytest.approx((0.8, 1.6))
    assert first.alike[:3] == ("arrival_s", "prefill_instance", "hit_tokens") and "prefill_s" in first.alike
    assert first.seen_s == pytest.approx(1.5 + 0.8)


@pytest.mark.parametrize("fact", [name for name in FACTS if name in COLUMNS and name not in ("arrival_s",)])
def test_the_first_fact_that_differs_is_named(fact: str) -> None:
    one = run(made())
    later = list(FACTS)[list(FACTS).index(fact) :]
    other = changed(one, 3, **dict.fromkeys(later, 999.0))
    first = apart(one, other, 3).first
    assert first is not None and (first.request_id, first.fact, first.b) == (3, fact, 999.0)
    assert fact not in first.alike and set(first.alike) <= set(FACTS)


def test_who_arrives_first_and_who_is_seen_first() -> None:
    one = run(made())
    late_s = float(one.table["finish_s"].max())
    other = changed(changed(one, 0, finish_s=late_s + 9), 4, prefill_instance=7)
    one = changed(one, 0, finish_s=late_s + 5)
    found = apart(one, other, 3)
    assert found.first is not None and (found.first.request_id, found.first.fact) == (0, "finish_s")
    assert found.first.seen_s == late_s + 5
    assert found.earliest is not None and (found.earliest.request_id, found.earliest.fact) == (4, "prefill_instance")
    assert found.earliest.seen_s == 8.0 and found.differing == 2


def test_who_is_complete_on_one_side_alone() -> None:
    """The last request does not fit 8 blocks."""
    rows = workload([Row(0.0, 8, 3), Row(1.0, 60, 3)])
    one, other = run(made(), rows), run(plan(times=TIMES, block_size=4, num_blocks=8), rows)
    found = apart(one, other, 3)
    assert (found.requests, found.only_a, found.only_b, found.differing) == (2, 1, 0, 1)
    assert found.first is not None and (found.first.request_id, found.first.fact, found.first.b) == (
        1,
        "completed",
        None,
    )
    assert not is_same(one, other)


def test_those_that_moved_most_come_first_with_the_part_that_did() -> None:
    one = run(made())
    ttft = {int(i): float(t) for i, t in zip(one.table["request_id"], one.table["first_token_s"], strict=True)}
    other = changed(one, 1, first_token_s=ttft[1] + 0.5, queue_s=0.5)
    other = changed(other, 5, first_token_s=ttft[5] - 0.75, prefill_s=0.75)
    found = apart(one, other, 9).moved
    assert [(each.request_id, each.part) for each in found] == [(5, "prefill"), (1, "queue")]
    assert [each.change_ms for each in found] == pytest.approx([-750.0, 500.0])
    assert found[1].part_change_ms == pytest.approx(500.0)
    assert len(apart(one, other, 1).moved) == 1


def test_warm_up_moves_nothing() -> None:
    one = run(made())
    other = changed(one, 1, first_token_s=99.0, queue_s=90.0)
    cold = replace(one, measured=one.table["request_id"] != 1)
    assert apart(cold, other, 5).moved == () and apart(one, other, 5).moved != ()
