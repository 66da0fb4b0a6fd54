"""Prompts whose heads a cache is given as they come."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from builders import Row, coefficients, colocated, components, plan, workload

from kvsim.record.result import Table
from kvsim.sim.executor import Serial, whole
from kvsim.sim.run import Case
from kvsim.sim.systems.given import GivenHeads

TIMES = coefficients(p1_s_per_token=0.5)
ROWS = [Row(0.0, pieces=((0, 16), (-1, 3)), output_tokens=2), Row(100.0, pieces=((1, 16), (-2, 3)), output_tokens=2)]


def run(system: str, prefill: list[int], decode: list[int], **settings: object) -> Table:
    made = plan(times=TIMES, block_size=4, num_blocks=40, nic_bytes_per_s=1e4, **settings)
    heads = GivenHeads(np.array(prefill), np.array(decode))
    made = made if system == "pd" else colocated(made)
    case = Case(system, system, made, workload(ROWS), 1, given=heads)
    (found,) = whole(Serial().run([pickle.loads(pickle.dumps(case))]))
    order = np.argsort(found.table["request_id"])
    return {name: column[order] for name, column in found.table.items()}


@pytest.mark.parametrize("system", ["unified", "pd"])
def test_whole_blocks_of_what_is_given_are_hit(system: str) -> None:
    table = run(system, [16, 10], [0, 0])
    assert table["hit_tokens"].tolist() == [16, 8]
    assert table["computed_tokens"].tolist() == [3, 11]
    assert components(table, 0)["prefill_s"] == 1.5 and components(table, 1)["prefill_s"] == 5.5


def test_nothing_given_is_nothing_hit() -> None:
    assert run("unified", [0, 0], [0, 0])["hit_tokens"].tolist() == [0, 0]


def test_what_the_decode_side_is_given_is_not_sent() -> None:
    """1,000 bytes a token over 10,000 bytes/s."""
    table = run("pd", [0, 0], [16, 4])
    assert table["transferred_bytes"].tolist() == [3_000, 15_000]
    assert components(table, 0)["transfer_s"] == pytest.approx(0.3)
    assert components(table, 1)["transfer_s"] == pytest.approx(1.5)


def test_a_radix_tree_is_given_as_well() -> None:
    assert run("unified", [16, 8], [0, 0], prefix_cache="radix")["hit_tokens"].tolist() == [16, 8]


def test_what_has_no_room_is_not_cached() -> None:
    """Six blocks, of which the first request holds five until its answer is complete, at 9.5 s."""
    rows = [Row(0.0, pieces=((0, 16), (-1, 3)), output_tokens=1), Row(1.0, pieces=((1, 16), (-2, 3)), output_tokens=1)]
    made = colocated(plan(times=TIMES, block_size=4, num_blocks=6))
    case = Case("unified", "unified", made, workload(rows), 1, given=GivenHeads(np.array([0, 16]), np.zeros(2, int)))
    (found,) = whole(Serial().run([case]))
    assert sorted(found.table["hit_tokens"].tolist()) == [0, 0]
