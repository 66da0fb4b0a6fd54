"""Clients that hang up: what waits is never computed, what runs is not scheduled again, the others have its place."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, colocated, impatient, plan, stepwise, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.plan.plan import Plan
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.run import Case
from kvsim.sim.run import run as run_case
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload


def run(found: Plan, requests: Workload, timeout_s: float, patient: int = 0) -> UnifiedSystem:
    system = impatient(UnifiedSystem(found, requests, 1), timeout_s, patient)
    system.run()
    for engine in system.prefill_engines:
        engine.pool.check_integrity()
    assert system.counts.arrived == system.counts.completed + system.counts.failed
    return system


@pytest.mark.parametrize(("is_async", "third_ends_s"), [(False, 25.0), (True, 26.0)])
def test_a_running_request_leaves_when_the_next_step_is_scheduled(is_async: bool, third_ends_s: float) -> None:
    """One seat, steps of a second, ten tokens each. The second request is given up in the midst of its fifth step; an
    asynchronous engine has scheduled the sixth by then. The fourth is given up while it waits.
    """
    found = colocated(plan(max_num_seqs=1, async_scheduling=is_async))
    rows = [Row(0.0, 4, 10), Row(0.0, 4, 10), Row(12.0, 4, 10), Row(12.0, 4, 10), Row(100.0, 4, 10)]
    table = by_request(system := run(found, workload(rows), 14.5))
    assert table["request_id"].tolist() == [0, 2, 4]
    assert table["finish_s"].tolist() == [10.0, third_ends_s, 110.0]
    assert system.gave_up == system.counts.failed == 2
    assert system.prefill_engines[0].pool.num_free == system.prefill_engines[0].settings.num_blocks


def test_the_patient_are_not_given_up() -> None:
    found = colocated(plan(max_num_seqs=1))
    system = run(found, workload([Row(0.0, 4, 10)] * 3), 5.0, patient=2)
    assert by_request(system)["request_id"].tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 2.0, 8.0, 40.0]))
def test_leaps_equal_single_steps_and_nobody_is_answered_too_late(seed: int, timeout_s: float) -> None:
    found, requests = random_case(Random(seed))
    found = colocated(found)
    leaping, stepping = (run(kind, requests, timeout_s) for kind in (found, stepwise(found)))
    assert leaping.gave_up == stepping.gave_up
    ours, theirs = by_request(leaping), by_request(stepping)
    for name in ("request_id", "hit_tokens", "computed_tokens"):
        assert (ours[name] == theirs[name]).all(), name
    np.testing.assert_allclose(ours["finish_s"], theirs["finish_s"], rtol=1e-12)
    assert (ours["finish_s"] - ours["arrival_s"] <= timeout_s + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 2.0, 8.0]))
def test_all_blocks_are_free_once_the_engines_have_run_on(seed: int, timeout_s: float) -> None:
    """The clock is run on after the last request is over, until nobody has anything to do."""
    found, requests = random_case(Random(seed))
    system = run(found, requests, timeout_s)
    system.clock.run_to_stop()
    for engine in system.prefill_engines:
        assert not engine.scheduler.running and not engine.scheduler.waiting
        assert engine.pool.num_free == engine.settings.num_blocks


def test_patience_without_end_changes_nothing() -> None:
    for seed in range(10):
        found, requests = random_case(Random(seed))
        patient = UnifiedSystem(found, requests, 1)
        patient.run()
        ours, theirs = by_request(run(found, requests, 1e9)), by_request(patient)
        assert all((ours[name] == theirs[name]).all() for name in ours)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.5, 2.0, 8.0, 40.0]))
def test_clients_of_separated_instances_go_wherever_their_requests_are(seed: int, timeout_s: float) -> None:
    """Every law of bytes and blocks holds; nobody is answered too late; leaps equal single steps."""
    found, requests = random_case(Random(seed))
    patience = Patience(timeout_s, 1)
    results = [run_case(Case("pd", "pd", kind, requests, 1, patience=patience)) for kind in (found, stepwise(found))]
    for result in results:
        failed = [law for law in result.system.checks if not law.ok]
        assert not failed, failed
        assert result.system.completed + result.gave_up == len(requests) == result.system.arrived
    ours, theirs = (result.system.table for result in results)
    assert sorted(ours["request_id"]) == sorted(theirs["request_id"])
    np.testing.assert_allclose(np.sort(ours["finish_s"]), np.sort(theirs["finish_s"]), rtol=1e-12)
    late_s = (ours["finish_s"] - ours["arrival_s"])[ours["request_id"] > 0]
    assert (late_s <= timeout_s + 1e-9).all()


def test_patience_without_end_changes_nothing_of_separated_instances() -> None:
    for seed in range(10):
        found, requests = random_case(Random(seed))
        patient, system = PdSystem(found, requests, 1), impatient(PdSystem(found, requests, 1), 1e9)
        patient.run()
        system.run()
        ours, theirs = by_request(system), by_request(patient)
        assert all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.parametrize("connector", ["general", "offloading"])
def test_a_load_that_nobody_waits_for_any_more_frees_its_blocks_when_it_has_come(connector: str) -> None:
    """A chunk takes four seconds to load. The third request is given up in the midst of that; its blocks are held until
    the load has come, as vLLM holds them, and what has come is not cached."""
    token_bytes = 131_072
    sets = (
        "engine.block_size=16",
        "cache.chunk_tokens=16",
        "cache.load_or_recompute=false",
        "hardware.dram.scope=instance",
        f"hardware.dram.capacity_gb={64 * 16 * token_bytes / 1e9}",
        f"hardware.dram.host_gb_per_s={4 * token_bytes / 1e9}",
        f"cache.connector={connector}",
    )
    found = replace(colocated(plan(sets=sets, block_size=16, num_blocks=8)), tiers=("dram",))
    shared, other = ((0, 32), (-1, 1)), ((-2, 100),)
    rows = [Row(0.0, pieces=shared), Row(20.0, pieces=other), Row(80.0, pieces=((0, 32), (-3, 1)), output_tokens=50)]
    system = impatient(UnifiedSystem(found, workload(rows), 1), 3.0, 2)
    system.run()
    (engine,) = system.prefill_engines
    assert system.gave_up == 1 and engine.scheduler.loading == 1
    assert engine.pool.num_free == 8 - 2
    system.clock.run_to_stop()
    assert engine.pool.num_free == 8 and not engine.scheduler.loading
    assert engine.pool.match(((0, 0, 2),), 2) == (1, 1)  # what the GPU had itself
