"""Live serving for tests: who is told keeps everything, and offline requests are sent one by one."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from operator import attrgetter

from kvsim.plan.plan import Plan
from kvsim.sim.online import OnlineServing, RequestFacts
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


def is_idle(serving: OnlineServing) -> bool:
    """Nobody is left, and every block is free."""
    state = serving.state()
    serving.check_integrity()
    return not (state.in_flight or state.running or state.waiting) and state.free_blocks == state.total_blocks
