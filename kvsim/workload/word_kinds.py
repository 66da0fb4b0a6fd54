"""Kinds of workloads that a word may stand for: single requests, sessions, a trace, ServeGen's clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.lengths import Lengths, drawn_pairs
from kvsim.workload.reading import Reading
from kvsim.workload.synthetic.arrivals import arrival_times
from kvsim.workload.synthetic.prefixes import NOTHING_SHARED, Prefixes, prefixed
from kvsim.workload.synthetic.servegen import Client, from_clients, read_clients
from kvsim.workload.synthetic.users import as_users, at_most, check_concurrency
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.config import Config
    from kvsim.workload.traffic import TraceTraffic

DESCRIBED_REQUESTS = 4000
"""Requests that are drawn to say what a word asks for."""


@dataclass(frozen=True)
class Sizes:
    """What the requests of a workload are like."""

    requests: int
    prompt_mean: float
    prompt_most: int
    output_mean: float
    output_most: int
    hit_rate: float | None
    """Share of prompt tokens that a cache that forgets nothing has; ``None``: not known."""

    @classmethod
    def of(cls, workload: Workload) -> Sizes:
        prompts, answers = workload.prompt_tokens, workload.output_tokens
        return cls(
            len(workload),
            float(prompts.mean()),
            int(prompts.max()),
            float(answers.mean()),
            int(answers.max()),
            workload.info.infinite_cache_hit_rate_tokens,
        )

    @property
    def words(self) -> str:
        """One clause for a reader."""
        said = (
            f"prompts of {self.prompt_mean:,.0f} tokens in the mean, the longest {self.prompt_most:,}; answers of "
            f"{self.output_mean:,.0f}, the longest {self.output_most:,}"
        )
        return said if self.hit_rate is None else f"{said}; a cache that forgets nothing hits {self.hit_rate:.1%}"


class WorkloadWord(ABC):
    """A kind of traffic, at any rate or for any number of users; the same seed gives the same requests."""

    text: str
    """As it was asked for."""
    what: str
    """What it stands for, and where its figures come from."""

    @abstractmethod
    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        """``num_requests`` requests that arrive at random, ``rate_per_s`` in the mean.

        An open loop; of agents it is the sessions that do, and their turns wait for answers.
        """

    @abstractmethod
    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """A closed loop: ``concurrency`` users, each of whom sends its next request when its last one has ended."""

    @cached_property
    def sizes(self) -> Sizes:
        """Mean and largest lengths of ``DESCRIBED_REQUESTS`` requests, of a trace of all."""
        return Sizes.of(self.generate(DESCRIBED_REQUESTS, 1.0, 0))

    def describe(self) -> str:
        """One line: what it is, the mean and the largest lengths."""
        return f"{self.text}: {self.what}; of {self.sizes.requests:,} requests: {self.sizes.words}"


@dataclass
class Single(WorkloadWord):
    """Requests that know nothing of each other but perhaps a shared prefix."""

    text: str
    what: str
    prompts: Lengths
    answers: Lengths
    most_tokens: int | None = None
    """Prompt and answer together."""
    prefixes: Prefixes = NOTHING_SHARED

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        check_requests(num_requests)
        random = np.random.default_rng(seed)
        arrival_s = arrival_times("poisson", num_requests, rate_per_s, random)
        prompts, answers = drawn_pairs(self.prompts, self.answers, self.most_tokens, num_requests, random)
        return prefixed(arrival_s, prompts, answers, self.prefixes, random, self.text)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)


@dataclass
class Sessions(WorkloadWord):
    """Sessions of several turns."""

    text: str
    what: str
    drawn: Callable[[int, float, int], Workload]
    """Requests, rate and seed to an open loop."""
    between_s: float
    """Mean pause of a user between two sessions."""

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        check_requests(num_requests)
        return self.drawn(num_requests, rate_per_s, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """Users begin in the midst of sessions, as many as are under way at any time."""
        check_concurrency(concurrency)
        pace_s = assumed_pace_s(None)
        rate_per_s = concurrency / max(self.sizes.output_mean * pace_s + self.between_s, pace_s)
        return as_users(self.generate(num_requests, rate_per_s, seed), concurrency, self.between_s, pace_s, seed)


@dataclass
class Trace(WorkloadWord):
    """A trace file, with the sessions and the content that it has."""

    text: str
    what: str
    reading: Reading

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        """The trace's first requests: as few copies side by side as reach the rate, stretched to hit it.

        Copies that have fewer requests are laid end to end from a random moment on.
        """
        check_requests(num_requests)
        copies = self._traffic.copies_at(rate_per_s)
        drawn = self._traffic.sample if copies * len(self._whole) >= num_requests else self._traffic.part
        return drawn(rate_per_s, num_requests, copies, seed)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        """The trace's first requests in their order, whatever their times; not more than it has."""
        check_requests(num_requests)
        return at_most(self._whole.limited(num_requests), concurrency)

    @cached_property
    def _traffic(self) -> TraceTraffic:
        from kvsim.workload.traffic import TraceSource, TraceTraffic

        return TraceTraffic(TraceSource(self.text, self.reading), None, 0)

    @cached_property
    def _whole(self) -> Workload:
        return self._traffic.population()

    @cached_property
    def sizes(self) -> Sizes:
        return Sizes.of(self._whole)


@dataclass
class Clients(WorkloadWord):
    """A folder of ServeGen's clients."""

    text: str
    what: str = "the clients of ServeGen in that folder"

    def generate(self, num_requests: int, rate_per_s: float, seed: int) -> Workload:
        check_requests(num_requests)
        return from_clients(self._clients, num_requests, rate_per_s, seed, self.text)

    def users(self, concurrency: int, num_requests: int, seed: int) -> Workload:
        return at_most(self.generate(num_requests, 1.0, seed), concurrency)

    @cached_property
    def _clients(self) -> list[Client]:
        return read_clients(self.text)


def check_requests(num_requests: int) -> None:
    """Raise ``WorkloadError`` where nothing is asked for."""
    if num_requests < 1:
        raise WorkloadError(f"number of requests is {num_requests}; allowed: 1 or more")


def shipped_config() -> Config:
    """Traffic as config.yaml has it."""
    from kvsim.config import load_config

    return load_config(mode="traffic").config
