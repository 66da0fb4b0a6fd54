"""Live serving against runs of the same requests, and what becomes of those whose clients go."""

from __future__ import annotations

import gc
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from any_config import some_settings
from builders import by_request, coefficients, colocated, plan
from engine_variety import KINDS, UNIFIED_ALONE, case_of
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from online import Heard, check_idle, finish, live
from test_any_config import case

from kvsim.config import load_config
from kvsim.errors import ConfigError, KvsimError
from kvsim.plan.plan import Plan, unified_plan
from kvsim.record.result import COLUMNS, Table
from kvsim.sim import online
from kvsim.sim.online import OnlineServing, RequestFacts
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.live_prefixes import PrefixRegistry
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

DISTURBED = {
    "fleet.events=[{kind: fail, at_s: 1, role: colocated}]": "fleet.events: instances of a live server do not fail",
    "clients.timeout_s=3": "clients.timeout_s: whoever sends requests to a live server has a patience of its own",
    "clients.retries=3": "clients.retries: whoever sends requests to a live server has a patience of its own",
    "routing.max_in_flight=3": "routing.max_in_flight: the router of a live server holds no requests",
}


@pytest.mark.parametrize(("assignment", "words"), DISTURBED.items())
def test_what_a_live_server_would_not_do_is_refused(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OnlineServing(plan(1, 1, sets=(assignment,)), "unified", 1, Heard())


SYSTEMS = {"unified": UnifiedSystem, "pd": PdSystem}
EVERY_KIND = [
    (kind, system) for kind in KINDS for system in (("unified",) if kind in UNIFIED_ALONE else ("unified", "pd"))
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
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_requests_that_come_live_are_served_as_in_a_run(kind: str, system: str, seed: int) -> None:
    found, requests = case_of(kind, Random(seed))
    served_alike(found, system, requests)


@pytest.mark.parametrize(("kind", "system"), EVERY_KIND)
@settings(max_examples=8, deadline=None)
@example(seed=12)
@given(seed=st.integers(0, 2**32))
def test_whoever_goes_frees_what_it_held_and_nobody_is_lost(kind: str, system: str, seed: int) -> None:
    found, requests = case_of(kind, Random(seed))
    let_go(found, system, requests, Random(seed))


ANY_CONFIG = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
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


def test_what_is_kept_does_not_grow_with_the_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that never come back, prompts that are never asked for again, clients that go: the number of objects
    after 1,000 requests is that after 5,000."""
    monkeypatch.setattr(online, "MOST_REMEMBERED", 256)
    dram = f"hardware.dram.capacity_gb={40 * 8 * 131_072 / 1e9}"
    sets = (dram, "hardware.dram.scope=instance", "cache.chunk_tokens=8", "engine.block_size=4")
    small = {"block_size": 4, "num_blocks": 120, "max_num_seqs": 8, "max_num_batched_tokens": 64}
    found = replace(plan(1, 1, sets=sets, times=coefficients(const_s=0.01), **small), tiers=("dram",))
    for system in SYSTEMS:
        serving = OnlineServing(found, system, 1, Deaf())
        registry, rng, counts = PrefixRegistry(4, 2 * serving.most_cached_blocks, serving.holds), Random(1), []
        for row in range(5_000):
            prompt = [row % 7] * rng.choice([8, 16]) + [rng.randrange(1 << 30) for _ in range(rng.randrange(1, 9))]
            pieces, output_chain = registry.pieces(prompt, answer := [rng.randrange(1 << 30)] * rng.randrange(1, 5))
            serving.send(Request(row, 0.0, len(prompt), len(answer), row, pieces, output_chain))
            serving.advance(serving.now_s + rng.expovariate(60))
            if rng.random() < 0.2:
                serving.abort(row - rng.randrange(3))
            if row % 2_000 == 999:
                gc.collect()
                counts.append(len(gc.get_objects()))
        assert max(counts) < 1.02 * min(counts), counts
        finish(serving)
        state = serving.state()
        assert state.free_blocks == state.total_blocks and state.aborted > 100


class Deaf:
    """Keeps nothing."""

    def tokens(self, request_id: int, count: int, time_s: float) -> None: ...

    def finished(self, request_id: int, facts: RequestFacts) -> None: ...

    def refused(self, request_id: int) -> None: ...


def request(row: int, prompt_tokens: int = 8, output_tokens: int = 4, chain: int | None = None) -> Request:
    own = -1 - row if chain is None else chain
    return Request(row, 0.0, prompt_tokens, output_tokens, -1, ((own, prompt_tokens),), own)


def one_at_a_time(**changes: object) -> OnlineServing:
    """One instance, one seat, steps of a second."""
    found = colocated(plan(max_num_seqs=1, async_scheduling=False, block_size=4, **changes))
    return OnlineServing(found, "unified", 1, Heard())


def test_tokens_come_step_by_step_and_time_stands_where_it_is_told_to() -> None:
    heard = Heard()
    serving = OnlineServing(colocated(plan(max_num_seqs=1, async_scheduling=False)), "unified", 1, heard)
    assert serving.next_event_s == float("inf") and serving.now_s == 0.0
    serving.advance(2.25)
    serving.send(request(7))
    serving.advance(2.25)
    assert serving.next_event_s == 3.25
    serving.advance(4.0)
    assert (serving.now_s, heard.tokens_of[7]) == (4.0, [(3.25, 1)])
    state = serving.state()
    assert (state.running, state.waiting, state.in_flight, state.generation_tokens) == (1, 0, 1, 1)
    assert state.prefix_query_tokens == state.prompt_tokens == 8
    serving.advance(serving.next_event_s)
    serving.advance(100.0)
    assert heard.tokens_of[7] == [(3.25, 1), (4.25, 1), (5.25, 1), (6.25, 1)]
    facts = heard.facts[7]
    assert (facts.ttft_s, facts.e2e_s, facts.cached_tokens, facts.preemptions) == (1.0, 4.0, 0, 0)
    assert facts._fields == COLUMNS


def test_a_client_that_goes_gives_its_seat_to_the_next() -> None:
    """The first runs and goes in the midst of a step; its step ends, and the second has the seat from then on."""
    heard = Heard()
    serving = OnlineServing(colocated(plan(max_num_seqs=1, async_scheduling=False)), "unified", 1, heard)
    for row in range(3):
        serving.send(request(row))
    serving.advance(1.5)
    assert serving.abort(0) and not serving.abort(0) and not serving.abort(9)
    assert serving.abort(1)
    finish(serving)
    assert list(heard.facts) == [2] and heard.tokens_of[2][0] == (3.0, 1)
    assert heard.tokens_of[0] == [(1.0, 1)] and 1 not in heard.tokens_of
    state = serving.state()
    assert (state.finished, state.aborted, state.in_flight) == (1, 2, 0)


def test_cached_prompts_hit_until_the_cache_is_reset() -> None:
    serving = one_at_a_time()
    hits = []
    for row in range(3):
        if row == 2:
            serving.reset_prefix_cache()
        serving.send(request(row, prompt_tokens=9, chain=5))
        finish(serving)
        hits.append(serving.state().prefix_hit_tokens)
    assert hits == [0, 8, 8]
    assert serving.holds(5) and not serving.holds(6)


def test_what_fits_nowhere_is_refused_at_once() -> None:
    heard = Heard()
    serving = OnlineServing(colocated(plan(block_size=4, num_blocks=3)), "unified", 1, heard)
    serving.send(request(0, prompt_tokens=20))
    assert heard.refusals == [0] and serving.state().refused == 1 and serving.next_event_s == float("inf")


def test_what_nobody_may_ask_is_named() -> None:
    serving = one_at_a_time()
    serving.advance(5.0)
    serving.send(request(0))
    with pytest.raises(ValueError, match="request 0 is in flight"):
        serving.send(request(0))
    for wrong in (4.9, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"allowed: from now, 5\.0 s"):
            serving.advance(wrong)
        with pytest.raises(ValueError, match=r"allowed: from now, 5\.0 s"):
            serving.send(request(1), at_s=wrong)
    serving.send(request(1), at_s=6.0)
    assert serving.abort(1) and not serving.abort(1)
    serving.send(request(1))


def test_a_listener_may_not_change_what_it_is_told_of() -> None:
    class Meddler(Deaf):
        def tokens(self, request_id: int, count: int, time_s: float) -> None:
            serving.abort(request_id)

    serving = OnlineServing(colocated(plan()), "unified", 1, Meddler())
    serving.send(request(0))
    with pytest.raises(RuntimeError, match="a listener called"):
        serving.advance(5.0)


def test_plans_that_cannot_serve_live_are_refused_in_a_line() -> None:
    alone = unified_plan(load_config(sets=["model.name=llama-3.1-8b"]).config, 1)
    with pytest.raises(ConfigError, match="no prefill and decode instances; allowed: the system 'unified'"):
        OnlineServing(alone, "pd", 1, Deaf())
    knowing = replace(plan(sets=("policies.eviction=belady", "engine.block_size=16")), tiers=("dram",))
    with pytest.raises(ConfigError, match=r"policies\.eviction = 'belady' knows which requests will come"):
        OnlineServing(knowing, "unified", 1, Deaf())
