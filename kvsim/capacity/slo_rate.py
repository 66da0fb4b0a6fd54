"""The largest rate at which a deployment of unified instances keeps its SLO: runs at several rates, ever nearer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvsim.capacity.demand import Demand
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.pilot import Trial
from kvsim.capacity.steady import unified_residence
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.sim.run import Case
from kvsim.units import MILLI

FEWEST_REQUESTS, MOST_REQUESTS = 1_500, 8_000
"""Requests of one run, on the whole sample of the deployment."""
_WARM_SHARE = 0.2
_FIRST, _POINTS, _ROUNDS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95), 3, 2
"""Shares of the maximum rate that are tried at first; then so many rates between the last that kept the SLO and the
first that did not, so often. None is nearer to the maximum: queues take longer to build up there than a run lasts."""


@dataclass(frozen=True, kw_only=True)
class Attainment:
    """What one run showed."""

    requests_per_s: float
    """Arrivals at the whole deployment."""
    share: float
    """Share of the requests that count which keep both limits."""
    ttft_share: float
    tpot_share: float


@dataclass(frozen=True, kw_only=True)
class SloRate:
    """The largest rate found to keep the SLO, and the runs that showed it."""

    requests_per_s: float | None
    """``None``: not even the lowest rate tried keeps it."""
    wanted_share: float
    limit: str | None
    """What is missed first above it: ``TTFT`` or ``TPOT``; ``None``: it keeps the SLO at every rate that was tried."""
    max_requests_per_s: float
    """By arithmetic: what a saturated deployment serves."""
    runs: tuple[Attainment, ...]
    """By rate."""

    def sentence(self, limits: str = "them") -> str:
        """The answer; ``limits``: what requests have to keep, in words, unless a sentence before has named them."""
        wanted = f"{self.wanted_share:.0%} of requests"
        if self.requests_per_s is None:
            lowest = self.runs[0]
            return (
                f"At no rate that was tried {wanted} keep {limits}: at {lowest.requests_per_s:.3g} requests/s "
                f"{lowest.share:.1%} do, {self.limit} being missed."
            )
        if self.limit is None:
            share = self.requests_per_s / self.max_requests_per_s
            return (
                f"{wanted} keep {limits} up to {self.requests_per_s:.3g} requests/s, {share:.0%} of the maximum rate, "
                "and no higher one was tried: nearer to it queues take longer to build up than such runs last."
            )
        return (
            f"{wanted} keep {limits} up to {self.requests_per_s:.3g} requests/s; above, {self.limit} is missed first."
        )


def slo_rate(trial: Trial, demand: Demand, seen: Attainment | None = None) -> SloRate:
    """Search between nothing and the maximum rate of ``trial.plan`` for ``demand``; arrivals open loop.

    The same requests come in every run, faster or slower. The SLO and the share that has to keep it are
    ``config.slo``'s. A run takes several times as many requests as are in flight, within limits; what is found is as
    near as these runs tell rates apart, about 2% of the maximum rate. ``seen``: what another run showed, which counts
    as they do.
    """
    maximum_per_s = maximum_rate(trial.plan, demand, "unified")
    wanted = trial.plan.config.slo.share
    known: dict[float, Attainment] = {}

    def look(shares: Sequence[float]) -> None:
        rates = [share * maximum_per_s for share in shares]
        cases = [_case(trial, demand, rate) for rate in rates]
        for share, rate, result in zip(shares, rates, trial.run(*cases), strict=True):
            known[share] = attained(result, rate, trial.plan)

    if seen is not None:
        known[seen.requests_per_s / maximum_per_s] = seen
    look(_FIRST)
    for _ in range(_ROUNDS):
        low, high = _bracket(known, wanted)
        if high is None or low >= _FIRST[-1]:
            break
        gap = (high - low) / (_POINTS + 1)
        look([low + gap * (point + 1) for point in range(_POINTS)])
    low, high = _bracket(known, wanted)
    missed = None if high is None else known[high]
    return SloRate(
        requests_per_s=low * maximum_per_s if low else None,
        wanted_share=wanted,
        limit=None if missed is None else "TTFT" if missed.ttft_share <= missed.tpot_share else "TPOT",
        max_requests_per_s=maximum_per_s,
        runs=tuple(known[share] for share in sorted(known)),
    )


def _bracket(known: dict[float, Attainment], wanted: float) -> tuple[float, float | None]:
    """The share below the lowest that misses the SLO, 0 where that is the first; and that lowest, if there is one."""
    low = 0.0
    for share in sorted(known):
        if known[share].share < wanted:
            return low, share
        low = share
    return low, None


def _case(trial: Trial, demand: Demand, requests_per_s: float) -> Case:
    """A run whose window is several times late E2E, as far as ``MOST_REQUESTS`` go."""
    residence = unified_residence(trial.plan, demand, requests_per_s)
    lives = 1 + trial.plan.config.load.unsteady_factor
    needed = lives * residence.late_s * requests_per_s / (1 - _WARM_SHARE)
    plan = trial.small_plan(requests_per_s)
    share = plan.num_instances / trial.plan.num_instances
    most = math.ceil(min(max(needed * share, FEWEST_REQUESTS), MOST_REQUESTS))
    workload = trial.traffic.sample(requests_per_s * share, most, trial.copies(plan, requests_per_s), trial.seed)
    return trial.case("SLO", "unified", plan, workload, int(len(workload) * _WARM_SHARE))


def attained(result: SystemResult, requests_per_s: float, plan: Plan) -> Attainment:
    """What a run at that rate showed. Requests that fit no instance keep no limit."""
    slo, table = plan.config.slo, rows_of(result, result.measured)
    in_ttft, in_tpot = within_limits(table, slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    failed = int((result.failed_arrival_s >= result.first_measured_s).sum())
    judged = max(len(in_ttft) + failed, 1)
    return Attainment(
        requests_per_s=requests_per_s,
        share=int((in_ttft & in_tpot).sum()) / judged,
        ttft_share=int(in_ttft.sum()) / judged,
        tpot_share=int(in_tpot.sum()) / judged,
    )
