"""Routers that people deploy: each choice by hand, from their cost functions."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.plan.plan import make_plan
from kvsim.sim.routing import InFlight, PrefixIndex
from kvsim.sim.routing.deployed import Dynamo, LlmD, Overlaps, SglangCacheAware
from kvsim.sim.routing.prefix_index import Path
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.request import Request
from kvsim.workload.synthetic.fixed import fixed

END = 1 << 60
SHARED: Path = ((0, 0, END),)
OWN: Path = ((-1, 0, END),)
BLOCK = 16


class Servers:
    """A router's books, and what caches hold."""

    def __init__(self, num: int) -> None:
        self.books, self.index, self.sent = InFlight(num), PrefixIndex(), 0
        self.overlaps = Overlaps(self.books, self.index, BLOCK, np.random.default_rng(0))

    def begin(self, instance: int, prompt_tokens: int, *, computed: bool = False) -> Request:
        request = Request(self.sent, 0.0, prompt_tokens, 10, -1, ((-1, prompt_tokens),), -1)
        self.sent += 1
        self.books.announced_tokens = float(prompt_tokens)
        self.books.begun(request, instance)
        if computed:
            self.books.computed(request, instance)
        return request


def test_books_are_even_when_all_have_left() -> None:
    servers = Servers(2)
    first, second = servers.begin(0, 100), servers.begin(0, 60, computed=True)
    books = servers.books
    assert (books.requests, books.waiting, books.waiting_tokens, books.held_tokens) == (
        [2, 0],
        [1, 0],
        [100, 0],
        [160, 0],
    )
    books.ended(first, 0)
    books.ended(second, 0)
    assert (books.requests, books.waiting, books.waiting_tokens, books.held_tokens) == ([0, 0], [0, 0], [0, 0], [0, 0])


def test_dynamo_weighs_blocks_to_compute_against_blocks_held() -> None:
    # 10 blocks, 8 of them cached at 0, which holds another 320 tokens, computed: 2 + (20 + 10) against 10 + 10.
    servers = Servers(2)
    servers.index.computed(0, SHARED, 8)
    servers.begin(0, 320, computed=True)
    assert Dynamo(servers.overlaps, 1.0, 1.0, 0.0).choose(SHARED, 160, -1) == 1
    # To compute counts ten times as much: 20 + 30 against 100 + 10.
    assert Dynamo(servers.overlaps, 1.0, 10.0, 0.0).choose(SHARED, 160, -1) == 0
    # Without credit for what is cached the cache is no reason: 100 + 30 against 100 + 10.
    assert Dynamo(servers.overlaps, 0.0, 10.0, 0.0).choose(SHARED, 160, -1) == 1
    assert servers.books.announced_tokens == 160


def test_dynamo_counts_prompts_that_wait() -> None:
    servers = Servers(2)
    servers.begin(0, 160)
    servers.begin(1, 160, computed=True)
    assert Dynamo(servers.overlaps, 1.0, 1.0, 0.0).choose(OWN, 160, -1) == 1


def test_dynamo_draws_by_the_softmax_of_costs_from_0_to_1() -> None:
    servers = Servers(2)
    servers.begin(0, 320, computed=True)
    router = Dynamo(servers.overlaps, 1.0, 1.0, 0.5)
    share = np.mean([router.choose(OWN, 160, -1) for _ in range(4000)])
    assert share == pytest.approx(1 / (1 + np.exp(-1 / 0.5)), abs=0.02)


def test_llm_d_adds_weighted_scores() -> None:
    # Instance 0 has half of the prompt, and alone a prompt that waits: 3 x 0.5 + 2 x 0 + 2 x 0.9 < 2 x 1 + 2 x 1.
    servers = Servers(2)
    servers.index.computed(0, SHARED, 5)
    waits = servers.begin(0, 100)
    router = LlmD(servers.overlaps, 3.0, 2.0, 2.0, room_tokens=1000)
    assert router.choose(SHARED, 160, -1) == 1
    # Once that is computed nothing waits: 1.5 + 2 + 1.8 > 2 + 2.
    servers.books.computed(waits, 0)
    assert router.choose(SHARED, 160, -1) == 0
    assert servers.books.announced_tokens == 80


def test_sglang_follows_the_cache_until_loads_are_apart() -> None:
    servers = Servers(3)
    servers.index.computed(2, SHARED, 4)
    router = SglangCacheAware(servers.overlaps, 0.3, 2, 1.5)
    # 64 of 160 tokens are 40%; of 320 they are too few: whoever was sent the fewest new tokens, in their order.
    assert router.choose(SHARED, 160, -1) == 2
    assert [router.choose(SHARED, 320, -1) for _ in range(3)] == [0, 1, 2]
    for _ in range(3):
        servers.begin(2, 16)
    assert router.choose(SHARED, 160, -1) == 0


def test_sglang_spreads_what_several_hold_alike() -> None:
    """Caches that begin warm hold the same heads: the first of them is not everybody's."""
    servers = Servers(4)
    for instance in (1, 2, 3):
        servers.index.computed(instance, SHARED, 4)
    router = SglangCacheAware(servers.overlaps, 0.3, 64, 1.5)
    chosen = [router.choose(SHARED, 160, -1) for _ in range(300)]
    assert all(70 < chosen.count(instance) < 130 for instance in (1, 2, 3))


@pytest.mark.parametrize("system", [UnifiedSystem, PdSystem])
@pytest.mark.parametrize("name", ["dynamo", "llmd", "sglang"])
def test_books_are_even_after_a_run(system: type[ServingSystem], name: str) -> None:
    plan = make_plan(load_config(preset="smoke", sets=(f"routing.prefill={name}",)).config)
    served = system(plan, fixed(40, 20.0, 1_500, 20, "poisson", seed=1), 1)
    served.run()
    books = served.in_flight
    assert books is not None and served.counts.completed == 40
    assert not any(books.requests) and not any(books.waiting) and not any(books.held_tokens)
    assert max(map(abs, books.waiting_tokens)) < 1e-6
