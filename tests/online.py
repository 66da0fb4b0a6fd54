"""Live serving for tests: who is told keeps everything, and offline requests are sent one by one."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from operator import attrgetter

import numpy as np

from kvsim.plan.plan import Plan
from kvsim.sim.log.conservation import kv_checks, network_checks
from kvsim.sim.online import OnlineServing, RequestFacts
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.tiers.use import tier_checks
from kvsim.workload.workload import Workload


class Heard:
    """All that was told of requests."""

    def __init__(self) -> None:
        self.tokens_of: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self.facts: dict[int, RequestFacts] = {}
        self.refusals: list[int] = []

    def tokens(self, request_id: int, count: int, time_s: float) -> None:
        assert request_id not in self.facts and count > 0
        self.tokens_of[request_id].append((time_s, count))

    def finished(self, request_id: int, facts: RequestFacts) -> None:
        assert request_id not in self.facts
        self.facts[request_id] = facts

    def refused(self, request_id: int) -> None:
        self.refusals.append(request_id)

    def check_tokens(self) -> None:
        """Tokens told of complete answers are their outputs; the first and the last came when the facts say."""
        for row, facts in self.facts.items():
            told = self.tokens_of[row]
            assert sum(count for _, count in told) == facts.output_tokens, row
            assert told[0][0] == facts.first_token_s and told[-1][0] == facts.finish_s, (row, told, facts)


def live(plan: Plan, system: str, requests: Workload, seed: int = 1) -> tuple[OnlineServing, Heard]:
    """The requests of a workload, sent one after the other as their times come, and served to the end."""
    heard = Heard()
    serving = OnlineServing(plan, system, seed, heard)
    for time_s, together in groupby(requests, key=attrgetter("arrival_s")):
        for request in together:
            serving.send(request, at_s=time_s)
        serving.advance(time_s)
    finish(serving)
    return serving, heard


def finish(serving: OnlineServing) -> None:
    """Let everything happen that is to happen."""
    while (next_s := serving.next_event_s) < float("inf"):
        serving.advance(next_s)


def check_idle(serving: OnlineServing, heard: Heard) -> None:
    """Nobody is left, every block is free, and nobody's books have anything open."""
    state, system = serving.state(), serving._system
    serving.check_integrity()
    assert (state.in_flight, state.running, state.waiting) == (0, 0, 0), state
    assert state.free_blocks == state.total_blocks, state
    assert not (system.sequences or serving._told.states or serving._told.chains or system.pinning)
    for engine in system.engines():
        scheduler = engine.scheduler
        assert not (scheduler.aborted or scheduler.kv_ready or scheduler.loaded or scheduler.loads)
        assert (scheduler.loading, engine.reservation.pending, engine.batch.num) == (0, 0, 0)
        assert engine.reservation.outstanding_tokens(engine.batch.steps) == 0
    assert not any(system.loads.loads)
    if system.in_flight is not None:
        books = system.in_flight
        assert not any([*books.requests, *books.waiting, *books.held_tokens, *books._to_compute])
    if isinstance(system, PdSystem):
        assert not (system.num_open or system._waiting)
        assert not any(load.tokens or load.requests for load in system.decode_loads.by_instance)
        by_request_bytes = sum(facts.transferred_bytes for facts in heard.facts.values())
        sent_bytes = by_request_bytes + system.returned_bytes + system.lost_bytes
        checks = [*kv_checks(system.kv_books), *network_checks(system.network, sent_bytes)]
        assert all(check.ok for check in checks), checks
    else:
        assert not any(system.backlog_tokens)
    if system.tiers is not None:
        assert not system.tiers._lookups
        loaded = np.array([facts.loaded_tokens for facts in heard.facts.values()], dtype=float)
        checks = tier_checks(system.tiers, {"loaded_tokens": loaded})
        assert all(check.ok for check in checks), checks
