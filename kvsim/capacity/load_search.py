"""What all that is compared is offered: the workload at its rate, and in PD runs a baseline tuned for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kvsim.capacity.demand import Demand
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.pilot import Measured, Trial, Tuned, measured_maximum, tuned_budget
from kvsim.capacity.sources import Source, check_rate
from kvsim.errors import CapacityError, ConfigError
from kvsim.failures import Failures
from kvsim.plan.fitting import fitting_rows
from kvsim.plan.plan import Plan
from kvsim.record.labels import listed, number
from kvsim.sim.executor import Executor
from kvsim.sim.run import SystemName
from kvsim.units import MILLI
from kvsim.workload.hits import longest_seen_tokens
from kvsim.workload.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load that was asked for, and the rate of arrivals that it comes to."""

    rho: float
    """Share of the maximum rate."""
    of: SystemName
    requests_per_s: float
    max_requests_per_s: float


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The token budget that the unified baseline was given, and the goodput of each on a sample."""

    budget_tokens: int
    goodput_requests_per_s: Mapping[str, float]
    """By budget."""


@dataclass(frozen=True)
class Offered:
    """What is run, and what was found out before."""

    plan: Plan
    """With the token budget of the unified baseline."""
    workload: Workload
    load: Load | None
    """``None``: the workload runs at its own rate."""
    tuning: Tuning | None
    """``None``: the baseline was not tuned."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class LoadTarget:
    """How hard the run is to be driven; ``None``: at the workload's own rate."""

    rho: float
    of: SystemName
    key: str = "load.rho"
    """Who asked for ``rho``, for messages."""


def short_heads(plan: Plan, workload: Workload) -> tuple[str, ...]:
    """Why no prompt can hit a cache although prompts share their heads: the heads fill no block; or nothing."""
    block_tokens, longest = plan.spec.block_size_tokens, longest_seen_tokens(workload)
    if not (0 < longest < block_tokens and plan.colocated_settings.enable_prefix_caching):
        return ()
    return (
        f"no prompt can hit a cache: the longest head that prompts share has {longest:,} tokens and fills no block of "
        f"{block_tokens:,} (engine.block_size), whatever the routing and the capacity",
    )


class LoadSearch:
    """Finds the rate, the baseline's token budget and the workload, in that order."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        seeds: tuple[int, int],
        failures: Failures,
        executor: Executor,
        tunes: bool = True,
        pd_maximum: Measured | None = None,
    ) -> None:
        """``seeds`` of the pilots and of the tuning; a tuning that fails leaves the budget as configured.

        Without ``tunes`` there is no baseline to tune. ``pd_maximum``: what these pilots have found before.
        """
        self._pd_maximum = pd_maximum
        self._tunes = tunes and plan.config.engine.tune_colocated_budget
        self._plan, self._source, self._failures, self._executor = plan, source, failures, executor
        self._pilot_seed, self._tuning_seed = seeds

    def at_own_rate(self, workload: Workload) -> Offered:
        """``workload`` as it stands. Raises ``CapacityError`` where no request of it can be served."""
        fitting_rows(workload, self._plan)
        rate_per_s = workload.mean_rate_per_s
        if not math.isfinite(rate_per_s):
            note = f"token budget of the unified baseline not tuned: {workload.without_rate}"
            notes: tuple[str, ...] = (note,) if self._tunes else ()
            return Offered(self._plan, workload, None, None, (*notes, *short_heads(self._plan, workload)))
        plan, tuning, notes = self._tuned(rate_per_s)
        return Offered(plan, workload, None, tuning, (*notes, *short_heads(plan, workload)))

    def at_load(self, asked: LoadTarget) -> Offered:
        """Arrivals at ``rho`` x the maximum rate of system ``of``, at which those that fit an instance load it fully.

        The baseline is tuned at that rate. Where the baseline's own maximum is asked for, that depends on the budget:
        it is tuned at the load of its best budget's maximum, and then loaded to the maximum of the budget chosen.
        Raises ``CapacityError`` where no request of the workload can be served.
        """
        if not 0 < asked.rho < math.inf:
            raise ConfigError(f"{asked.key} is {asked.rho:g}; allowed: a finite number > 0")
        maximum = self._maximum(self._plan, asked.of)
        said = f"{asked.key} is {asked.rho:g}, of a maximum of {maximum.requests_per_s:.4g} requests/s"
        check_rate(asked.rho * maximum.requests_per_s, said)
        tuned_at = maximum.requests_per_s
        if asked.of == "unified" and self._tunes:
            tuned_at = max(self._unified_maximum(budget, maximum.demand) for budget in self._budgets)
        plan, tuning, notes = self._tuned(asked.rho * tuned_at / self._fitting_share())
        if asked.of == "unified" and plan is not self._plan:
            maximum = self._maximum(plan, asked.of)
        share = self._fitting_share()
        max_per_s = maximum.requests_per_s / share
        rate_per_s = asked.rho * max_per_s
        try:
            workload = self._source.at_rate(rate_per_s, maximum.demand)
        except CapacityError as error:
            raise CapacityError(f"{said}: {error}") from error
        fitting_rows(workload, self._plan)
        load = Load(rho=asked.rho, of=asked.of, requests_per_s=rate_per_s, max_requests_per_s=max_per_s)
        if share < 1:
            note = f"{share:.1%} of requests fit an instance: the load is that of these, the others cost nothing"
            notes = (*notes, note)
        return Offered(plan, workload, load, tuning, (*notes, *short_heads(plan, workload)))

    def _fitting_share(self) -> float:
        """Share of the traffic's requests that fit."""
        population = self._source.traffic.population()
        return len(fitting_rows(population, self._plan)) / len(population)

    @property
    def _budgets(self) -> tuple[int, ...]:
        return tuple(self._plan.config.engine.colocated_budgets)

    def _unified_maximum(self, budget: int, demand: Demand) -> float:
        return maximum_rate(self._plan.with_colocated_budget(budget), demand, "unified")

    def _maximum(self, plan: Plan, of: SystemName) -> Measured:
        if of == "pd" and self._pd_maximum is not None:
            return self._pd_maximum
        trial = self._trial(plan, self._pilot_seed)
        return measured_maximum(trial, of, plan.config.load.pilot_requests)

    def _trial(self, plan: Plan, seed: int) -> Trial:
        return Trial(plan, self._source.traffic, seed, self._executor, self._source.requests_at)

    def _tuned(self, requests_per_s: float) -> tuple[Plan, Tuning | None, tuple[str, ...]]:
        if not self._tunes:
            return self._plan, None, ()
        trial = self._trial(self._plan, self._tuning_seed)
        what = "tuning of the unified baseline's token budget"
        tuned = self._failures.attempt(what, lambda: tuned_budget(trial, requests_per_s))
        if tuned is None:
            return self._plan, None, ()
        goodput = {str(budget): rate_per_s for budget, rate_per_s in tuned.goodput.items()}
        tuning = Tuning(budget_tokens=tuned.budget_tokens, goodput_requests_per_s=goodput)
        return tuned.plan, tuning, (tuning_words(tuned),)


def tuning_words(tuned: Tuned) -> str:
    """Which budget the baseline has, and what decided."""
    takes, sample = f"the unified baseline takes {tuned.budget_tokens:,} tokens a step", f"{tuned.sample_gpus:,} GPUs"
    goodputs = ", ".join(f"{budget}: {rate_per_s:.4g}" for budget, rate_per_s in tuned.goodput.items())
    if len(tuned.tied) == 1:
        return f"{takes}, the best by goodput on a sample of {sample} (requests/s: {goodputs})"
    if len(set(tuned.goodput.values())) == 1:
        goodputs = f"{max(tuned.goodput.values()):.4g} requests/s each"
    else:
        goodputs = f"requests/s: {goodputs}"
    ttfts_s = {budget: tuned.mean_ttft_s[budget] for budget in tuned.tied}
    if len(set(ttfts_s.values())) == 1:
        why = "and in mean TTFT: it is the first of them"
    else:
        why = f"and it has the lowest mean TTFT (ms: {_listed_ms(ttfts_s)})"
    budgets = listed([f"{budget:,}" for budget in tuned.tied])
    return f"{takes}: on a sample of {sample} {budgets} tie in goodput ({goodputs}), {why}"


def _listed_ms(times_s: Mapping[int, float]) -> str:
    return ", ".join(f"{budget}: {number(time_s / MILLI)}" for budget, time_s in times_s.items())
