"""Prefill/decode separation: where TTFT goes, backpressure, placement, and that a run can be repeated."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, check, coefficients, components, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import routed_table

from kvsim.record.result import COMPONENTS, Table
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.network.stream import Stream
from kvsim.sim.outcome import outcome
from kvsim.sim.routing import DECODE_ROUTERS
from kvsim.sim.systems.pd import KvTransfer, PdSystem
from kvsim.steptime import AffineStepTime

TIMES = coefficients(p1_s_per_token=0.125, w0_s=0.5, a_s_per_kv_token=0.015625)
ONE = workload([Row(1.0, 16, 4)])
NO_OVERLAP = ("pd_separation.transfer.pipelining=false",)


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_the_parts_sum_to_ttft_and_none_is_negative(rng: Random) -> None:
    found, requests = random_case(rng)
    table = by_request(served(PdSystem, found, requests))
    parts_s = np.array([table[name] for name in COMPONENTS])
    assert (parts_s >= 0).all()
    np.testing.assert_allclose(parts_s.sum(axis=0), table["first_token_s"] - table["arrival_s"], rtol=0, atol=1e-9)


def one_request(*, instant: str = "", nic_bytes_per_s: float = 16_000.0) -> Table:
    """One uncontended request without overlap; the steps of the engines named take no time."""
    system = PdSystem(plan(sets=NO_OVERLAP, times=TIMES, nic_bytes_per_s=nic_bytes_per_s), ONE, 1)
    for engine in {"": [], "prefill": system.prefill_engines, "decode": system.decode_engines}[instant]:
        engine.step_time = AffineStepTime(coefficients())
    system.run()
    check(system)
    return by_request(system)


def test_one_request_alone_computes_moves_and_decodes() -> None:
    assert components(one_request(), 0) == {"prefill_s": 2.0, "transfer_s": 1.0, "first_decode_s": 0.75}


@pytest.mark.parametrize(
    ("removed", "changes"),
    [
        ("transfer_s", {"nic_bytes_per_s": float("inf")}),
        ("prefill_s", {"instant": "prefill"}),
        ("first_decode_s", {"instant": "decode"}),
    ],
)
def test_infinite_resources_remove_exactly_their_component(removed: str, changes: dict[str, Any]) -> None:
    before, table = one_request(), one_request(**changes)
    left = components(before, 0)
    gone_s = left.pop(removed)
    assert components(table, 0) == left
    assert before["first_token_s"][0] - table["first_token_s"][0] == pytest.approx(gone_s, abs=1e-9)


def test_decode_wait_is_the_wait_for_room_with_the_prefill_blocks_pinned() -> None:
    two = workload([Row(0.0, 32, 3), Row(0.0, 32, 3)])
    fast = {"nic_bytes_per_s": float("inf"), "max_num_batched_tokens": 32}
    system = PdSystem(plan(num_blocks=3, **fast), two, 1)
    pinned: list[tuple[float, int]] = []
    pool = system.prefill_engines[0].pool
    for time_s in (1.5, 2.5, 3.5, 5.5):
        system.clock.schedule(time_s, callback=lambda _: pinned.append((system.clock.now, pool.num_free)))
    system.run()
    check(system)
    table = by_request(system)
    assert components(table, 0) == {"prefill_s": 1.0, "first_decode_s": 1.0}
    assert components(table, 1) == {"queue_s": 1.0, "prefill_s": 1.0, "decode_wait_s": 2.0, "first_decode_s": 1.0}
    assert (system.reservation_waits, table["first_token_s"].tolist()) == (1, [2.0, 5.0])
    assert pinned == [(1.5, 1), (2.5, 1), (3.5, 1), (5.5, 3)]
    roomy = by_request(served(PdSystem, plan(num_blocks=9, **fast), two))
    assert components(roomy, 1) == {"queue_s": 1.0, "prefill_s": 1.0, "first_decode_s": 1.0}


def test_the_decode_instance_beside_the_prefill_does_not_fill_while_others_idle() -> None:
    """One stands in its rack, two in the other; each answer takes 30 s and a request comes every second."""
    racks = ("cluster.simulate_racks=2", "cluster.simulate_gpus_per_rack=2", "cluster.gpus_per_rack=2")
    fast = coefficients(p1_s_per_token=1e-4, w0_s=1.0)
    rows = [Row(float(i), 16 * (1 + i % 5), 30) for i in range(120)]
    table = by_request(served(PdSystem, plan(1, 3, sets=racks, times=fast, nic_bytes_per_s=1e9), workload(rows)))
    decodes = np.bincount(table["decode_instance"].astype(int), minlength=3)
    assert decodes.max() <= 1.2 * decodes.min()


@pytest.mark.parametrize("name", DECODE_ROUTERS)
def test_nobody_waits_for_a_seat_while_another_instance_has_one(name: str) -> None:
    """Four seats on two instances. The first request holds most tokens, and its instance has a seat left."""
    rows = [Row(0.0, tokens, 50) for tokens in (4000, 16, 16, 16)]
    found = plan(1, 2, sets=(f"routing.decode={name}",), nic_bytes_per_s=float("inf"), max_num_seqs=2)
    for seed in range(5):
        system = served(PdSystem, found, workload(rows), seed)
        assert sorted(by_request(system)["decode_instance"]) == [0, 0, 1, 1]
        assert waits(system) == 0


def test_waits_for_seats_count() -> None:
    """Two seats are taken for 50 s, and two requests come meanwhile."""
    rows = [Row(0.0, 16, 50), Row(0.0, 16, 50), Row(10.0, 16, 50), Row(10.0, 16, 50), Row(200.0, 16, 50)]
    found = plan(1, 1, nic_bytes_per_s=float("inf"), max_num_seqs=2)
    system = served(PdSystem, found, workload(rows))
    assert waits(system) == 2
    assert by_request(system)["decode_wait_s"].tolist() == pytest.approx([0, 0, 40, 40, 0], abs=2.0)


def waits(system: PdSystem) -> int:
    """For decode room, as reported."""
    transfer = outcome(system, warmup_requests=0, unsteady_factor=0.0).transfer
    assert transfer is not None
    return transfer.reservation_waits


def test_those_that_wait_for_room_are_served_in_their_order() -> None:
    rows = [Row(0.0, 32, 3), Row(0.0, 48, 3), Row(0.0, 16, 3)]
    table = by_request(served(PdSystem, plan(num_blocks=4, max_num_batched_tokens=16), workload(rows)))
    assert np.argsort(table["first_token_s"]).tolist() == [0, 1, 2]


def test_transfers_to_one_instance_share_its_nic() -> None:
    two = workload([Row(0.0, 16, 2), Row(0.0, 16, 2)])
    slow = {"nic_bytes_per_s": 16_000.0}
    shared = by_request(served(PdSystem, plan(2, 1, **slow), two))
    assert shared["transfer_s"].tolist() == [2.0, 2.0]
    queued = by_request(served(PdSystem, plan(2, 1, sets=("pd_separation.transfer.contention=fifo",), **slow), two))
    assert queued["transfer_s"].tolist() == [1.0, 2.0]
    free = by_request(served(PdSystem, plan(2, 1, sets=("pd_separation.transfer.contention=none",), **slow), two))
    assert free["transfer_s"].tolist() == [1.0, 1.0]


def test_roles_are_interleaved_and_the_same_rack_is_preferred() -> None:
    sets = ("cluster.simulate_racks=4", "cluster.simulate_gpus_per_rack=4", "cluster.gpus_per_rack=4")
    found = plan(4, 12, sets=sets)
    roles = found.interleaved_roles()
    assert [sum(roles[rack * 4 : rack * 4 + 4]) for rack in range(4)] == [1, 1, 1, 1]
    table = by_request(served(PdSystem, found, workload([Row(i * 0.1, 16, 3) for i in range(8)])))
    assert (table["prefill_instance"] == table["decode_instance"] // 3).all()


def test_bytes_in_equal_bytes_out() -> None:
    rows = [Row(i * 0.4, 0, 9, ((i % 3, 40 + 10 * (i // 3)),), i % 3) for i in range(12)]
    system = served(PdSystem, plan(2, 2, nic_bytes_per_s=5e4), workload(rows))
    sent = system.requests.table()["transferred_bytes"].sum() + system.returned_bytes
    assert system.returned_bytes > 0
    assert system.network.bytes_sent == pytest.approx(sent)
    assert system.network.bytes_received + system.network.bytes_in_air == pytest.approx(sent)


def test_a_request_that_no_side_can_hold_fails() -> None:
    system = served(PdSystem, plan(num_blocks=4), workload([Row(0.0, 65, 1), Row(0.0, 40, 9)]))
    assert (system.counts.completed, system.counts.failed) == (1, 1)


@pytest.mark.parametrize(("router", "decode"), [("affinity", "capacity"), ("two_choices", "two_choices")])
def test_the_same_seed_gives_the_same_table(router: str, decode: str) -> None:
    first, second = routed_table(router, decode), routed_table(router, decode)
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name], err_msg=name)


def test_nothing_depends_on_the_hash_seed() -> None:
    tests = Path(__file__).resolve().parents[2]
    script = (
        "import hashlib, traffic\n"
        "table = traffic.routed_table('two_choices', 'two_choices')\n"
        "print(hashlib.sha256(b''.join(table[n].tobytes() for n in sorted(table))).hexdigest())\n"
    )
    path = os.pathsep.join([str(tests.parent), str(tests)])
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script]
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip())
    table = routed_table("two_choices", "two_choices")
    here = hashlib.sha256(b"".join(table[name].tobytes() for name in sorted(table))).hexdigest()
    assert found == {here}


@pytest.mark.sources
def test_a_request_leaves_nothing_behind_that_only_a_collector_finds() -> None:
    """Runs switch the collector off: a cycle per request would be a leak."""
    rows = [Row(0.1 * i, 16, 3) for i in range(60)]
    gc.collect()
    gc.disable()
    try:
        served(PdSystem, plan(2, 2), workload(rows))
        left = [found for found in gc.get_objects() if isinstance(found, KvTransfer | Stream)]
    finally:
        gc.enable()
    assert not left


@pytest.mark.sources
def test_requests_that_are_over_are_kept_nowhere() -> None:
    """Neither in the reservations of steps to come, nor among those of whom the longest is asked for."""
    times = coefficients(w0_s=0.01, straggler_s_per_token=1e-6)
    rows = [Row(0.1 * i, 16, 40 if i == 0 else 3 + i % 7) for i in range(300)]
    system = PdSystem(plan(2, 2, times=times), workload(rows), 1)
    assert system.decode_engines[0].batch.needs_longest
    system.run()
    left = [found for found in gc.get_objects() if isinstance(found, RequestState)]
    assert system.counts.completed == 300 and len(left) <= 4
