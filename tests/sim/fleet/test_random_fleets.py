"""No request is lost or counted twice, whatever happens to instances and clients; leaps equal single steps."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from builders import by_request, stepwise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_fleets import random_fleet

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.record.fleet import FleetUse
from kvsim.sim.log.conservation import request_checks
from kvsim.sim.systems.fleet_of import look_after
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.scaling_use import least_work
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

System = PdSystem | UnifiedSystem


def run(found: Plan, requests: Workload, separated: bool) -> tuple[System, FleetUse]:
    system = (PdSystem if separated else UnifiedSystem)(found, requests, 1)
    looked = look_after(system, None)
    assert looked is not None
    system.run()
    counts, table = system.counts, system.requests.table()
    assert counts.arrived == len(requests) == counts.completed + counts.failed
    assert len(set(table["request_id"])) == counts.completed == len(table["request_id"])
    assert not system.sequences and not system.pinning
    failed = [law for law in (*request_checks(table, counts), *system.byte_checks()) if not law.ok]
    assert not failed, failed
    for engine in system.engines():
        engine.pool.check_integrity()
    use = looked.use()
    refused = counts.failed - system.gave_up
    assert use.gave_up + use.unserved + refused == counts.failed
    assert use.amplification >= 1
    for role in use.roles:
        pairs = zip(role.serving, role.paid, strict=True)
        assert all(0 <= serving <= paid <= role.instances for serving, paid in pairs)
    for scaled in use.scaling.roles if use.scaling else ():
        assert scaled.minimum <= min(scaled.wanted) and max(scaled.wanted) <= scaled.maximum
        assert scaled.least_gpu_s <= scaled.paid_gpu_s * (1 + 1e-9)
        if any(event.kind == "hang" for event in found.config.fleet.events):
            continue  # what an engine that hangs books as busy is no sum of its steps
        log = system.logs_by_role()[scaled.role]
        log.flush()
        assert least_work(system, table, scaled.role).sum() <= log.busy_s * (1 + 1e-9)
    return system, use


def same_fleets(leaping: System, ours: FleetUse, stepping: System, theirs: FleetUse) -> None:
    """Both served the same requests at the same times, from the same instances."""
    assert leaping.counts.completed == stepping.counts.completed
    assert (ours.resent, ours.router_gave_up, ours.retried, ours.timed_out, ours.unserved, ours.requests_hit) == (
        theirs.resent,
        theirs.router_gave_up,
        theirs.retried,
        theirs.timed_out,
        theirs.unserved,
        theirs.requests_hit,
    )
    assert ours.roles == theirs.roles
    if ours.scaling is not None and theirs.scaling is not None:
        assert [role.wanted for role in ours.scaling.roles] == [role.wanted for role in theirs.scaling.roles]
    first, second = by_request(leaping), by_request(stepping)
    for name in ("request_id", "prefill_instance", "decode_instance", "computed_tokens", "hit_tokens"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for name in ("first_token_s", "finish_s", "retry_s"):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-9, atol=1e-9, err_msg=name)


def goes_on(found: Plan) -> bool:
    """Whether something happens for ever."""
    return found.config.autoscale.is_on or any(event.at_s is None for event in found.config.fleet.events)


OWN_BLOCKS_AGAIN = 133, 212, 374
"""Prompts of nobody else, preempted, given up and sent again: they find blocks of their own."""
HELD_AT_A_TIE = 189, 228, 254
"""Requests held at the router are sent when steps of several instances end at one instant."""

DRAINED_TOGETHER = 10442
"""A unit that has drained lets a rolling restart go on, by which another one turns out to have drained."""
DRAINED_FOR_NOBODY = 10856
"""The last step on a draining unit, which hangs, is for a request that has been given up."""


@pytest.mark.parametrize("separated", [False, True])
@settings(max_examples=150, deadline=None)
@example(seed=OWN_BLOCKS_AGAIN[0])
@example(seed=OWN_BLOCKS_AGAIN[1])
@example(seed=OWN_BLOCKS_AGAIN[2])
@example(seed=HELD_AT_A_TIE[0])
@example(seed=HELD_AT_A_TIE[1])
@example(seed=HELD_AT_A_TIE[2])
@example(seed=DRAINED_TOGETHER)
@example(seed=DRAINED_FOR_NOBODY)
@given(seed=st.integers(0, 2**32))
def test_nobody_is_lost_and_leaps_equal_single_steps(separated: bool, seed: int) -> None:
    found, requests = random_fleet(Random(seed), separated)
    (leaping, ours), (stepping, theirs) = (run(kind, requests, separated) for kind in (found, stepwise(found)))
    same_fleets(leaping, ours, stepping, theirs)
    if not goes_on(found):
        leaping.clock.run_to_stop()
        for engine in leaping.engines():
            assert engine.pool.num_free == engine.pool.num_blocks, engine.role


@pytest.mark.parametrize("separated", [False, True])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_run_ends_where_instances_fail_more_often_than_an_answer_takes(separated: bool, seed: int) -> None:
    rng = Random(seed)
    found, requests = random_fleet(rng, separated)
    kinds = rng.sample(["fail", "fail", "drain", "hang", "slow"], 2)
    events = tuple(often(rng, kind, ["prefill", "decode"] if separated else ["colocated"]) for kind in kinds)
    fleet = found.config.fleet.model_copy(update={"events": events, "resend": True})
    found = replace(found, config=found.config.model_copy(update={"fleet": fleet}))
    _, use = run(found, requests, separated)
    most = len(requests) * (1 + found.config.clients.retries)
    assert use.resent <= fleet.max_resends * most and use.router_gave_up <= most


def often(rng: Random, kind: str, roles: list[str]) -> FleetEvent:
    """Something that happens again and again, each time long before an answer is complete."""
    given: dict[str, object] = {"kind": kind, "role": rng.choice(roles), "mtbf_h": rng.uniform(0.02, 1.0) / 3600}
    if kind == "slow":
        given["factor"] = rng.choice([2.0, 5.0])
    if kind == "drain":
        given["grace_s"] = 0.0
    if kind == "hang" or rng.random() < 0.8:
        given["mttr_s"] = rng.uniform(0.02, 2.0)
    return FleetEvent(**given)  # type: ignore[arg-type]
