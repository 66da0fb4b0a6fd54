"""Live serving against runs of the same requests, and what becomes of those whose clients go."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from any_config import some_settings
from builders import Row, by_request, colocated, plan, workload
from engine_variety import KINDS, UNIFIED_ALONE, case_of
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from online import Heard, check_idle, finish, live
from test_any_config import case

from kvsim.errors import ConfigError, KvsimError
from kvsim.plan.plan import Plan
from kvsim.record.result import COLUMNS, Table
from kvsim.sim import online
from kvsim.sim.online import OnlineServing, RequestFacts
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

SYSTEMS = {"unified": UnifiedSystem, "pd": PdSystem}
EVERY_KIND = [
    (kind, system)
    for kind in KINDS
    for system in (("unified",) if kind in UNIFIED_ALONE else ("unified", "pd"))
]
COUNTS = ("hit_tokens", "loaded_tokens", "computed_tokens", "recomputed_tokens", "preemptions", "output_tokens")
TIMES = ("arrival_s", "first_token_s", "finish_s", "queue_s", "prefill_s", "tier_load_s", "transfer_s", "decode_wait_s")


def offline(found: Plan, system: str, requests: Workload) -> Table:
    run = SYSTEMS[system](found, requests, 1)
    run.run()
    return by_request(run)


def same(heard: Heard, table: Table) -> None:
    assert sorted(heard.facts) == table["request_id"].astype(int).tolist()
    for name in COUNTS:
        assert [getattr(heard.facts[row], name) for row in sorted(heard.facts)] == table[name].tolist(), name
    for name in TIMES:
        ours = [getattr(heard.facts[row], name) for row in sorted(heard.facts)]
        np.testing.assert_allclose(ours, table[name], rtol=1e-9, atol=1e-12, err_msg=name)


def served_alike(found: Plan, system: str, requests: Workload) -> None:
    """Live as in a run; every token is told, and nothing is left."""
    found = found.drafting_with(1)
    serving, heard = live(found, system, requests)
    same(heard, offline(found, system, requests))
    heard.check_tokens()
    check_idle(serving, heard)
    state = serving.state()
    assert state.arrived == len(heard.facts) + len(heard.refusals) == len(requests)
    assert state.generation_tokens == sum(facts.output_tokens for facts in heard.facts.values())
    assert state.prompt_tokens == sum(facts.prompt_tokens for facts in heard.facts.values())


def with_cuts(found: Plan, system: str, requests: Workload, rng: Random) -> tuple[OnlineServing, Heard, set[int]]:
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


def let_go(found: Plan, system: str, requests: Workload, rng: Random) -> None:
    """Whoever goes frees what it held, and nobody is lost."""
    serving, heard, gone = with_cuts(found, system, requests, rng)
    check_idle(serving, heard)
    heard.check_tokens()
    state = serving.state()
    assert not gone & set(heard.facts)
    assert (state.finished, state.aborted, state.refused) == (len(heard.facts), len(gone), len(heard.refusals))
    assert state.arrived == state.finished + state.aborted + state.refused == len(requests)


@pytest.mark.parametrize(("kind", "system"), EVERY_KIND)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_that_come_live_are_served_as_in_a_run(kind: str, system: str, seed: int) -> None:
    found, requests = case_of(kind, Random(seed))
    served_alike(found, system, requests)


@pytest.mark.parametrize(("kind", "system"), EVERY_KIND)
@settings(max_examples=20, deadline=None)
@example(seed=12)
@given(seed=st.integers(0, 2**32))
def test_whoever_goes_frees_what_it_held_and_nobody_is_lost(kind: str, system: str, seed: int) -> None:
    found, requests = case_of(kind, Random(seed))
    let_go(found, system, requests, Random(seed))


ANY_CONFIG = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
any_config = given(
    chosen=some_settings(("cache", "engine", "routing"), most=8),
    seed=st.integers(0, 1 << 32),
    system=st.sampled_from(sorted(SYSTEMS)),
)


def tiered(chosen: dict[str, Any], seed: int, system: str) -> tuple[Plan, Workload]:
    """A small cluster with tiers behind it, and these settings."""
    try:
        found, requests = case(Random(seed), {"cache.tiers": ["dram"]} | chosen)
        SYSTEMS[system](found, requests, 1)
        OnlineServing(found, system, 1, Heard())
    except KvsimError:
        assume(False)
    return found, requests


@ANY_CONFIG
@any_config
def test_tiers_and_policies_of_all_kinds_serve_live_as_in_a_run(chosen: dict[str, Any], seed: int, system: str) -> None:
    found, requests = tiered(chosen, seed, system)
    served_alike(found, system, requests)


@ANY_CONFIG
@example(chosen={"cache.connector": "offloading"}, seed=1, system="unified")
@example(chosen={"cache.load_at": "arrival"}, seed=2, system="unified")
@example(chosen={"engine.speculative.acceptance_of": "draft_model/wmt-en-de"}, seed=608, system="pd")
@any_config
def test_whoever_goes_while_tiers_move_loses_nothing_of_others(chosen: dict[str, Any], seed: int, system: str) -> None:
    found, requests = tiered(chosen, seed, system)
    let_go(found, system, requests, Random(seed))
