"""The requests that arrive: a trace or synthetic chat, brought to a rate.

A trace is never squeezed: an hour in seconds would let turns arrive before the answers they reply to. A higher rate
takes more copies of it side by side, and the copies are stretched together where they are too fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kvsim.config import Config, derived
from kvsim.errors import WorkloadError
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.replicas import part, replicated
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.workload.words import WorkloadWord

_POPULATION_REQUESTS, _WORD_REQUESTS = 20_000, 5_000
"""Synthetic requests drawn to know what they ask for."""
_ROUNDING = 1e-3
"""Copies this much too slow, relatively, are squeezed: the ends of a trace make its rate no better known."""


@dataclass(frozen=True)
class TraceSource:
    """A trace file and how to read it. Of merged copies as many requests are run as the reading's limit allows."""

    path: str | Path
    reading: Reading = AS_IT_STANDS

    def read(self, answer_s_per_token: float | None = None) -> Workload:
        """All that there is for anything to be made of."""
        from kvsim.workload.read import read_workload

        return read_workload(self.path, self.reading, answer_s_per_token)


class Traffic(Protocol):
    """Requests of one kind, at any rate."""

    @property
    def most_requests(self) -> int | None:
        """Different ones that there are; ``None``: no bound."""

    def population(self) -> Workload:
        """Requests enough to know what they ask for; their arrivals mean nothing."""

    def copies_at(self, requests_per_s: float) -> int | None:
        """How many copies of a trace make that rate; ``None`` where requests are drawn at any rate."""

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        """The first requests of such traffic at another scale, for a smaller cluster."""

    def part(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        """A sample, but with other requests for every seed, and as many as asked for where the kind has no end."""


class TraceTraffic:
    """A recorded trace, or several copies of it."""

    def __init__(
        self, source: TraceSource, replicas: int | None, seed: int, answer_s_per_token: float | None = None
    ) -> None:
        """``replicas``: as many copies and no other number. Raises ``WorkloadError`` where it is below one."""
        if replicas is not None and replicas < 1:
            raise WorkloadError(f"workload replicas is {replicas}; allowed: 1 or more")
        self._source, self._replicas, self._seed = source, replicas, seed
        self._limit = source.reading.limit
        self._answer_s_per_token = answer_s_per_token

    @cached_property
    def _one(self) -> Workload:
        """Within the limit: what is not to be served decides no rate, and is in no sample and no part."""
        return self._source.read(self._answer_s_per_token)

    @property
    def most_requests(self) -> int:
        return len(self._one)

    def population(self) -> Workload:
        return self._one

    def own(self) -> Workload:
        """At its own rate, times the replicas asked for."""
        if self._replicas is None or self._replicas == 1:
            return self._one
        return replicated(self._one, self._replicas, self._seed, self._limit)

    def at_rate(self, requests_per_s: float) -> Workload:
        """The trace in as few copies as reach the rate, stretched to hit it; all their requests, or the limit's.

        Raises ``WorkloadError`` where the replicas asked for do not reach it.
        """
        copies = self._replicas or self.copies_at(requests_per_s)
        while True:
            merged = replicated(self._one, copies, self._seed, self._limit)
            if merged.mean_rate_per_s >= requests_per_s * (1 - _ROUNDING):
                return merged.stretched_to(requests_per_s)
            if self._replicas is not None:
                raise WorkloadError(
                    f"workload replicas is {copies}: {merged.mean_rate_per_s:.4g} requests/s, where the load asks for "
                    f"{requests_per_s:.4g}; allowed: {self._fewest_copies(requests_per_s)} or more"
                )
            copies += 1

    def copies_at(self, requests_per_s: float) -> int:
        """The replicas asked for, where they reach it."""
        return max(self._replicas or 1, self._fewest_copies(requests_per_s))

    def _fewest_copies(self, requests_per_s: float) -> int:
        rate_per_s = self._one.mean_rate_per_s
        return max(1, math.ceil(requests_per_s / rate_per_s * (1 - _ROUNDING))) if math.isfinite(rate_per_s) else 1

    def requests_at(self, requests_per_s: float) -> int:
        """How many requests ``at_rate`` gives, at least about."""
        whole = len(self._one) * (self._replicas or self.copies_at(requests_per_s))
        return whole if self._limit is None else min(self._limit, whole)

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        count = copies or self.copies_at(requests_per_s)
        return replicated(self._one, count, seed, num_requests).stretched_to(requests_per_s)

    def part(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        """From a random moment of the trace on; one that is too short is laid end to end."""
        count = copies or self.copies_at(requests_per_s)
        return part(self._one, count, seed, num_requests).stretched_to(requests_per_s)


class ChatTraffic:
    """Synthetic chat or RAG of the configuration's ``pd_trace``."""

    def __init__(self, config: Config) -> None:
        self._traffic, self._seed = config.pd_trace, derived.traffic_seed(config)
        self._max_output_tokens = config.pd_separation.max_output_tokens
        self._answer_s_per_token = derived.answer_s_per_token(config)

    @property
    def most_requests(self) -> int | None:
        """Requests that the configured sessions make; ``None``: no bound."""
        sessions = self._traffic.num_sessions if self._traffic.kind == "chat" else None
        return None if sessions is None else sessions * self._traffic.turns_per_session

    def population(self) -> Workload:
        return self._drawn(1.0, _POPULATION_REQUESTS, self._seed)

    def at_rate(self, requests_per_s: float, num_requests: int) -> Workload:
        """``num_requests`` requests; raises ``WorkloadError`` where the configured sessions make fewer."""
        return self._chat(requests_per_s, num_requests, self._seed)

    def copies_at(self, requests_per_s: float) -> int | None:
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        return self._drawn(requests_per_s, num_requests, seed)

    part = sample

    def _drawn(self, requests_per_s: float, num_requests: int, seed: int) -> Workload:
        return self._chat(requests_per_s, min(num_requests, self.most_requests or num_requests), seed)

    def _chat(self, requests_per_s: float, num_requests: int, seed: int) -> Workload:
        if self._traffic.kind == "rag":
            from kvsim.workload.synthetic.rag import rag

            return rag(self._traffic, num_requests, requests_per_s, seed, self._traffic.arrivals)
        from kvsim.workload.synthetic.chat import chat

        most, pace_s = self._max_output_tokens, self._answer_s_per_token
        return chat(self._traffic, num_requests, requests_per_s, seed, most, pace_s)


@dataclass(frozen=True)
class WordTraffic:
    """Synthetic requests of a kind that one word names, at any rate; drawn anew for every rate and number."""

    word: WorkloadWord
    seed: int

    @property
    def most_requests(self) -> int | None:
        return None

    def population(self) -> Workload:
        return self._population

    @cached_property
    def _population(self) -> Workload:
        return self.word.generate(_WORD_REQUESTS, 1.0, self.seed)

    def copies_at(self, requests_per_s: float) -> int | None:
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        return self.word.generate(num_requests, requests_per_s, seed)

    part = sample
