"""The largest rate within an SLO: a single server whose waiting times are known, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from builders import coefficients, plan

from kvsim.capacity.demand import demand_of
from kvsim.capacity.pilot import Trial
from kvsim.capacity.slo_rate import Attainment, SloRate, slo_rate
from kvsim.config.load import changed
from kvsim.sim.executor import Serial
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload


class Fixed:
    """Equal prompts with answers of one token, at any rate."""

    most_requests = None

    def population(self) -> Workload:
        return self.sample(1.0, 100, None, 1)

    def copies_at(self, requests_per_s: float) -> int | None:
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        return fixed(num_requests, requests_per_s, 100, 1, "poisson", seed)

    part = sample


def searched(ttft_ms: float, share: float = 0.9, seen: Attainment | None = None) -> SloRate:
    """One instance that takes prompts one by one, 0.1 s each."""
    one = plan(1, 1, times=coefficients(p1_s_per_token=1e-3), max_num_batched_tokens=100, max_num_seqs=100)
    config = changed(one.config, {"slo.ttft_ms": ttft_ms, "slo.share": share}, "test")
    one = replace(one, config=config, num_instances=1, num_prefill=0, num_decode=0)
    trial = Trial(one, Fixed(), 1, Serial(), lambda rate: 3000)
    return slo_rate(trial, demand_of(trial.traffic.population(), one), seen)


def test_a_queue_with_one_server() -> None:
    """M/D/1, D = 0.1 s: at 0.2 of the load 80% do not wait, and E2E stays below 0.2 s for more than 95%."""
    found = searched(200.0)
    assert found.max_requests_per_s == pytest.approx(10.0)
    assert found.requests_per_s is not None
    # P(wait <= D) = (1 - rho) e^rho of M/D/1; 0.9 at rho 0.49.
    rho = next(share / 1000 for share in range(1, 1000) if (1 - share / 1000) * math.exp(share / 1000) < 0.9)
    assert found.requests_per_s / 10 == pytest.approx(rho, abs=0.06)
    assert found.limit == "TTFT"
    rates = [run.requests_per_s for run in found.runs]
    assert rates == sorted(rates) and len(rates) == len(set(rates)) == 12


def test_limits_that_are_never_kept_and_always() -> None:
    never, always = searched(50.0), searched(1e6)
    assert never.requests_per_s is None and never.limit == "TTFT"
    assert "At no rate that was tried 90% of requests keep them: at 0.125 requests/s 0.0% do" in never.sentence()
    assert always.requests_per_s == pytest.approx(9.5) and always.limit is None
    assert always.sentence() == (
        "90% of requests keep them up to 9.5 requests/s, 95% of the maximum rate, and no higher one was tried: nearer "
        "to it queues take longer to build up than such runs last."
    )


def test_what_another_run_showed_counts() -> None:
    seen = Attainment(requests_per_s=3.0, share=0.5, ttft_share=0.5, tpot_share=1.0)
    found = searched(1e6, seen=seen)
    assert found.requests_per_s is not None and 2.5 < found.requests_per_s < 3.0 and found.limit == "TTFT"


def test_the_sentence_names_what_is_missed() -> None:
    run = Attainment(requests_per_s=5.0, share=0.5, ttft_share=0.9, tpot_share=0.5)
    found = SloRate(requests_per_s=4.0, wanted_share=0.99, limit="TPOT", max_requests_per_s=9.0, runs=(run,))
    assert found.sentence() == "99% of requests keep them up to 4 requests/s; above, TPOT is missed first."
