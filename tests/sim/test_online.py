"""Live serving against runs of the same requests, and what becomes of those whose clients go."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import by_request
from hypothesis import given, settings
from hypothesis import strategies as st
from online import Heard, finish, is_idle, live

from kvsim.plan.plan import Plan
from kvsim.record.result import Table
from kvsim.sim.online import OnlineServing
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

KINDS = {"unified": UnifiedSystem, "pd": PdSystem}
EXACT = ("hit_tokens", "loaded_tokens", "computed_tokens", "recomputed_tokens", "preemptions", "output_tokens")
TIMES = ("arrival_s", "first_token_s", "finish_s", "queue_s", "prefill_s", "transfer_s", "decode_wait_s")


def offline(found: Plan, system: str, requests: Workload) -> Table:
    run = KINDS[system](found, requests, 1)
    run.run()
    return by_request(run)


def same(heard: Heard, table: Table) -> None:
    assert sorted(heard.facts) == table["request_id"].astype(int).tolist()
    for name in EXACT:
        assert [getattr(heard.facts[row], name) for row in sorted(heard.facts)] == table[name].tolist(), name
    for name in TIMES:
        ours = [getattr(heard.facts[row], name) for row in sorted(heard.facts)]
        np.testing.assert_allclose(ours, table[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("system", ["unified", "pd"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_that_come_live_are_served_as_in_a_run(system: str, seed: int) -> None:
    found, requests = random_case(Random(seed))
    serving, heard = live(found, system, requests)
    same(heard, offline(found, system, requests))
    heard.check_tokens()
    assert is_idle(serving)
    assert serving.state().arrived == len(heard.facts) + len(heard.refusals)


@pytest.mark.parametrize("system", ["unified", "pd"])
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whoever_goes_frees_what_it_held_and_nobody_is_lost(system: str, seed: int) -> None:
    found, requests = random_case(Random(seed))
    serving, heard, gone = served_with_cuts(found, system, requests, Random(seed))
    assert is_idle(serving)
    heard.check_tokens()
    state = serving.state()
    assert not gone & set(heard.facts)
    assert state.arrived == len(heard.facts) + len(gone) + len(heard.refusals)
    assert (state.finished, state.aborted, state.refused) == (len(heard.facts), len(gone), len(heard.refusals))


def served_with_cuts(
    found: Plan, system: str, requests: Workload, rng: Random
) -> tuple[OnlineServing, Heard, set[int]]:
    """Half of the clients go after a time that is often about as long as their requests are on their way."""
    heard, gone = Heard(), set()
    serving = OnlineServing(found, system, 1, heard)
    acts = [(request.arrival_s, 0, request) for request in requests]
    for request in requests:
        if rng.random() < 0.5:
            after_s = rng.choice([0.0, 0.5, 1.0, rng.uniform(0, 3), rng.uniform(0, 30)])
            acts.append((request.arrival_s + after_s, 1, request))
    for time_s, kind, request in sorted(acts):
        serving.advance(time_s)
        if not kind:
            serving.send(request)
        elif serving.abort(request.request_id):
            gone.add(request.request_id)
            assert not serving.abort(request.request_id)
    finish(serving)
    return serving, heard, gone
