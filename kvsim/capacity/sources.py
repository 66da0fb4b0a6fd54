"""What a run serves: a trace, or the synthetic traffic of its mode, at its own rate or at one that is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from kvsim.capacity.demand import Demand, demand_of
from kvsim.capacity.steady import run_requests
from kvsim.config import Config, derived
from kvsim.errors import ConfigError
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.workload.adapted import AdaptedTraffic, adapted
from kvsim.workload.synthetic.sessions import most_requests, sessions
from kvsim.workload.traffic import ChatTraffic, TraceSource, TraceTraffic, Traffic, WordTraffic
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.workload.words import WorkloadWord

RATES_PER_S = 1e-9, 1e9
"""The least and the highest that requests may arrive at."""
_POPULATION_REQUESTS = 10_000
_FEWEST_REQUESTS, _MOST_REQUESTS = 500, 100_000
_ROUNDS = 20
"""Requests of a user in a closed loop."""
_SESSION_LIVES = 3.0
"""Mean lives of a session that a run lasts at least, so that most of those that begin also end in it."""


class Source(Protocol):
    """One kind of traffic as this run wants it."""

    @property
    def traffic(self) -> Traffic:
        """Where requests come from, at any scale."""

    @property
    def own_per_s(self) -> float | None:
        """Requests/s that somebody set for :meth:`own`; ``None``: it comes as it was recorded, or has none."""

    def own(self) -> Workload | None:
        """The workload at its own rate; ``None`` where only a load gives it one."""

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        """The whole workload at a rate."""

    def requests_at(self, requests_per_s: float) -> int:
        """About how many requests that has."""


def source_of(
    mode: Mode, plan: Plan, given: TraceSource | WordSource | None, replicas: int | None, seed: int
) -> Source:
    """The trace where there is one, of which ``replicas`` copies are run, or what a word stands for; else what ``mode``
    serves on ``plan``. Where that has adapters, its requests go to them."""
    found = _bare_source(mode, plan, given, replicas, seed)
    count = derived.lora_adapters(plan.config)
    return found if count is None else AdaptedRun(found, count)


def _bare_source(
    mode: Mode, plan: Plan, given: TraceSource | WordSource | None, replicas: int | None, seed: int
) -> Source:
    if isinstance(given, TraceSource):
        return TraceRun(TraceTraffic(given, replicas, seed, derived.answer_s_per_token(plan.config)))
    if given is not None:
        return WordRun(given, plan.config.seed)
    return SessionsRun(plan, mode) if mode.name in ("single", "cluster") else ChatRun(plan)


def check_rate(requests_per_s: float, asked_for: str) -> None:
    """Raise ``ConfigError`` where times at that rate would be lost to rounding; ``asked_for`` says whose rate it is."""
    least, most = RATES_PER_S
    if not least <= requests_per_s <= most:
        raise ConfigError(f"{asked_for}: {requests_per_s:.4g} requests/s; allowed: {least:g} to {most:g} requests/s")


class AdaptedRun:
    """Another source's requests, at adapters."""

    def __init__(self, source: Source, count: int) -> None:
        self._source, self._count = source, count
        self.traffic: Traffic = AdaptedTraffic(source.traffic, count)

    @property
    def own_per_s(self) -> float | None:
        return self._source.own_per_s

    def own(self) -> Workload | None:
        found = self._source.own()
        return None if found is None else adapted(found, self._count)

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        return adapted(self._source.at_rate(requests_per_s, demand), self._count)

    def requests_at(self, requests_per_s: float) -> int:
        return self._source.requests_at(requests_per_s)


class TraceRun:
    """A trace, whole."""

    own_per_s = None

    def __init__(self, traffic: TraceTraffic) -> None:
        self.traffic = traffic

    def own(self) -> Workload:
        return self.traffic.own()

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        return self.traffic.at_rate(requests_per_s)

    def requests_at(self, requests_per_s: float) -> int:
        return self.traffic.requests_at(requests_per_s)


class SessionsTraffic:
    """Sessions of ``trace`` or ``cluster_trace`` at any rate."""

    def __init__(self, config: Config, mode: Mode) -> None:
        self._section, self._traffic = mode.sessions(config)
        own = self._traffic.seed
        self._seed = config.seed if own is None else own
        self._answer_s_per_token = derived.answer_s_per_token(config)

    @property
    def most_requests(self) -> int:
        return most_requests(self._traffic)

    @property
    def life_s(self) -> float:
        """From a session's first turn to its last, the mean."""
        traffic, answer_s = self._traffic, self._answer_s_per_token * self._traffic.output_tokens_mean
        return (traffic.turns_per_session - 1) * (traffic.think_time_s + answer_s)

    def population(self) -> Workload:
        return self._population

    @cached_property
    def _population(self) -> Workload:
        return self.at_rate(1.0, min(_POPULATION_REQUESTS, self.most_requests))

    def at_rate(self, requests_per_s: float, num_requests: int) -> Workload:
        return self._sessions(num_requests, requests_per_s, self._seed)

    def _sessions(self, num_requests: int, requests_per_s: float, seed: int) -> Workload:
        return sessions(self._traffic, self._section, num_requests, requests_per_s, seed, self._answer_s_per_token)

    def copies_at(self, requests_per_s: float) -> int | None:
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        num_requests = min(num_requests, self.most_requests)
        return self._sessions(num_requests, requests_per_s, seed)

    part = sample


class _Drawn:
    """Synthetic traffic, which has any number of requests."""

    traffic: ChatTraffic | SessionsTraffic

    def __init__(self, plan: Plan, key: str, qps: float | None) -> None:
        """``qps``: the requests/s that the configuration sets at ``key``, if it does."""
        self._plan, self._key, self.own_per_s = plan, key, qps
        self._requests_at: dict[float, int] = {}

    @cached_property
    def _unhelped(self) -> Demand:
        """What the requests ask where caches hit nothing."""
        return demand_of(self.traffic.population(), self._plan)

    def own(self) -> Workload | None:
        if self.own_per_s is None:
            return None
        check_rate(self.own_per_s, self._key)
        return self.at_rate(self.own_per_s, self._unhelped)

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        return self.traffic.at_rate(requests_per_s, self._requests(requests_per_s, demand))

    def requests_at(self, requests_per_s: float) -> int:
        if requests_per_s not in self._requests_at:
            self._requests_at[requests_per_s] = self._requests(requests_per_s, self._unhelped)
        return self._requests_at[requests_per_s]

    def _requests(self, requests_per_s: float, demand: Demand) -> int:
        raise NotImplementedError


class ChatRun(_Drawn):
    """Synthetic chat: as many requests as are configured, else as a steady state takes."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, "pd_trace.qps", plan.config.pd_trace.qps)
        self.traffic: ChatTraffic = ChatTraffic(plan.config)

    def _requests(self, requests_per_s: float, demand: Demand) -> int:
        config = self._plan.config
        given = derived.num_requests(config)
        if given is not None:
            return given
        experiment, factor = config.pd_experiments, config.load.unsteady_factor
        warmup, share = experiment.warmup_requests, experiment.warmup_share
        needed = run_requests(self._plan, demand, requests_per_s, factor, warmup, share)
        return min(needed, self.traffic.most_requests or needed)


class SessionsRun(_Drawn):
    """Sessions: the requests that are configured, else as many as a steady state and the sessions' lives take."""

    def __init__(self, plan: Plan, mode: Mode) -> None:
        section, traffic = mode.sessions(plan.config)
        super().__init__(plan, f"{section}.qps", traffic.qps)
        self.traffic: SessionsTraffic = SessionsTraffic(plan.config, mode)
        self._section, self._experiment = section, mode.experiment(plan.config)[1]

    def _requests(self, requests_per_s: float, demand: Demand) -> int:
        given = self._experiment.num_requests
        if given is not None:
            if given > self.traffic.most_requests:
                raise ConfigError(
                    f"{self._section}: {given:,} requests are more than num_sessions x turns_per_session = "
                    f"{self.traffic.most_requests:,}"
                )
            return given
        own, share = self._experiment.warmup_requests, self._experiment.warmup_share
        factor = self._plan.config.load.unsteady_factor
        steady = run_requests(self._plan, demand, requests_per_s, factor, own, share)
        lives = int(_SESSION_LIVES * self.traffic.life_s * requests_per_s)
        return min(max(steady, lives), self.traffic.most_requests)


@dataclass(frozen=True)
class WordSource:
    """Requests of one kind, and how they come."""

    word: WorkloadWord
    concurrency: int | None = None
    """Users in a closed loop: each sends its next request when the last one has ended; ``None``: arrivals at a rate."""
    duration_s: float = 3600.0
    """How long requests come, where their number is not given."""
    num_requests: int | None = None


class WordRun:
    """What a word stands for, in an open or a closed loop."""

    own_per_s = None

    def __init__(self, given: WordSource, seed: int) -> None:
        self.traffic = WordTraffic(given.word, seed)
        self._given, self._seed = given, seed

    def own(self) -> Workload | None:
        """What users send; requests that come at a rate have none of their own."""
        concurrency = self._given.concurrency
        if concurrency is None:
            return None
        num_requests = self._given.num_requests or max(_ROUNDS * concurrency, _FEWEST_REQUESTS)
        return self._given.word.users(concurrency, num_requests, self._seed)

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        return self._given.word.generate(self.requests_at(requests_per_s), requests_per_s, self._seed)

    def requests_at(self, requests_per_s: float) -> int:
        """Requests that come in the time, but enough for percentiles, and no more than these need."""
        wanted = math.ceil(requests_per_s * self._given.duration_s)
        return self._given.num_requests or min(max(wanted, _FEWEST_REQUESTS), _MOST_REQUESTS)
