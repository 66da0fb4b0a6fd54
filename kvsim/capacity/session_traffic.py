"""What the modes with tiers serve: a trace, or sessions of the configuration."""

from __future__ import annotations

from functools import cached_property

from kvsim.capacity.demand import Demand, demand_of
from kvsim.capacity.load_search import check_rate
from kvsim.capacity.steady import run_requests
from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.workload.synthetic.sessions import most_requests, sessions
from kvsim.workload.workload import Workload

_POPULATION_REQUESTS = 10_000
WARMUP_SHARE = 0.3
"""Of a run that is cut from latency statistics when nothing is configured: tiers take longer to fill than engines."""
_SESSION_LIVES = 3.0
"""Of a run: mean lives of a session, so that most of those that begin also end in it."""


class SessionsTraffic:
    """Sessions of ``trace`` or ``cluster_trace`` at any rate."""

    def __init__(self, config: Config, mode: Mode) -> None:
        self._section, self._traffic = mode.traffic(config)
        own = self._traffic.seed
        self._seed = config.seed if own is None else own

    @property
    def most_requests(self) -> int:
        return most_requests(self._traffic)

    @property
    def life_s(self) -> float:
        """From a session's first turn to its last, the mean."""
        traffic = self._traffic
        return (traffic.turns_per_session - 1) * (traffic.think_time_s + 0.02 * traffic.output_tokens_mean)

    def population(self) -> Workload:
        return self._population

    @cached_property
    def _population(self) -> Workload:
        return self.at_rate(1.0, min(_POPULATION_REQUESTS, self.most_requests))

    def at_rate(self, requests_per_s: float, num_requests: int) -> Workload:
        return sessions(self._traffic, self._section, num_requests, requests_per_s, self._seed)

    def copies_at(self, requests_per_s: float) -> int | None:
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        num_requests = min(num_requests, self.most_requests)
        return sessions(self._traffic, self._section, num_requests, requests_per_s, seed)

    part = sample


class SessionsRun:
    """As many requests as are configured, else as a steady state and the sessions' lives take."""

    def __init__(self, plan: Plan, mode: Mode) -> None:
        self.traffic = SessionsTraffic(plan.config, mode)
        self._plan, self._mode = plan, mode

    @cached_property
    def _unhelped(self) -> Demand:
        return demand_of(self.traffic.population(), self._plan)

    def own(self) -> Workload | None:
        section, traffic = self._mode.traffic(self._plan.config)
        if traffic.qps is None:
            return None
        check_rate(traffic.qps, f"{section}.qps")
        return self.at_rate(traffic.qps, self._unhelped)

    def at_rate(self, requests_per_s: float, demand: Demand) -> Workload:
        return self.traffic.at_rate(requests_per_s, self._requests(requests_per_s, demand))

    def requests_at(self, requests_per_s: float) -> int:
        return self._requests(requests_per_s, self._unhelped)

    def _requests(self, requests_per_s: float, demand: Demand) -> int:
        config = self._plan.config
        given = self._mode.experiment(config).num_requests
        if given is not None:
            if given > self.traffic.most_requests:
                section = self._mode.traffic(config)[0]
                raise ConfigError(
                    f"{section}: {given:,} requests are more than num_sessions x turns_per_session = "
                    f"{self.traffic.most_requests:,}"
                )
            return given
        own, factor = self._mode.experiment(config).warmup_requests, config.load.unsteady_factor
        steady = run_requests(self._plan, demand, requests_per_s, factor, own, WARMUP_SHARE)
        lives = int(_SESSION_LIVES * self.traffic.life_s * requests_per_s)
        return min(max(steady, lives), self.traffic.most_requests)
