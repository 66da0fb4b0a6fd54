"""Servers that break down and are repaired, against queueing theory. Seeds are fixed; intervals are at 99%, over
replications of which each has draws of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients, colocated, looked_after, plan, with_fleet
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

STEP_S = 0.005
MEAN_TOKENS = 200
SERVICE_S = STEP_S * MEAN_TOKENS
REPLICATIONS = 20


def servers(count: int, *events: FleetEvent) -> Plan:
    """Instances of one seat each behind a queue of all: whoever has been idle longest gets the next request."""
    found = plan(times=coefficients(const_s=STEP_S), max_num_seqs=1, enable_prefix_caching=False)
    routing = found.config.routing.model_copy(update={"max_in_flight": 1, "prefill": "least_loaded"})
    found = replace(found, config=found.config.model_copy(update={"routing": routing}))
    return with_fleet(replace(colocated(found), num_instances=count), *events)


def broken_down(mean_up_s: float, **lasts: float) -> FleetEvent:
    return FleetEvent(kind="hang", mtbf_h=mean_up_s / 3600, **lasts)  # type: ignore[arg-type]


def requests_of(arrival_s: np.ndarray, tokens: np.ndarray) -> Workload:
    prompts = np.ones(len(tokens), dtype=np.int32)
    return Workload.private(arrival_s, prompts, tokens.astype(np.int32), WorkloadInfo("test", "synthetic"))


def mean_interval(found: Plan, rate_per_s: float, num: int = 600) -> tuple[float, float]:
    """Mean seconds from arrival to the last token, and half the width of its interval. Poisson arrivals; a fifth of
    them come before it counts."""
    means = []
    for seed in range(REPLICATIONS):
        rng = np.random.default_rng(seed)
        arrival_s = np.cumsum(rng.exponential(1 / rate_per_s, num))
        system, _ = looked_after(
            UnifiedSystem, found, requests_of(arrival_s, rng.geometric(1 / MEAN_TOKENS, num)), seed
        )
        table = system.requests.table()
        stays_s = table["finish_s"] - table["arrival_s"]
        means.append(float(stays_s[table["request_id"] >= num // 5].mean()))
    return interval(means)


def interval(means: list[float]) -> tuple[float, float]:
    """Mean of the means of replications, and half the width of its confidence interval."""
    num = len(means)
    half_width = stats.t.ppf(0.995, num - 1) * np.std(means, ddof=1) / math.sqrt(num)
    return float(np.mean(means)), float(half_width)


@pytest.mark.parametrize(("load", "mean_up_s", "mean_down_s"), [(0.4, 5.0, 1.0), (0.2, 2.0, 1.5)])
def test_one_server_that_breaks_down_is_white_and_christie_s(load: float, mean_up_s: float, mean_down_s: float) -> None:
    """M/M/1 with breakdowns of a busy or idle server, exponential repairs, work that goes on where it stopped.

    H. White and L. S. Christie, "Queuing with preemptive priorities or with breakdown", Operations Research 6 (1958):
    L = lambda ((f + r)^2 + mu f) / ((f + r) (r mu - lambda (f + r))), with breakdowns at f and repairs at r; by
    Little's law L / lambda is the mean stay.
    """
    f, r, mu, arrivals = 1 / mean_up_s, 1 / mean_down_s, 1 / SERVICE_S, load / SERVICE_S
    expected_s = ((f + r) ** 2 + mu * f) / ((f + r) * (r * mu - arrivals * (f + r)))
    found_s, half_width_s = mean_interval(servers(1, broken_down(mean_up_s, mttr_s=mean_down_s)), arrivals)
    assert abs(found_s - expected_s) <= half_width_s
    assert half_width_s < 0.15 * expected_s


State = tuple[int, int, int, tuple[bool, ...]]
"""Requests in the queue, busy servers that run and that are hung; whether each idle one runs, idle longest first."""


def moves(
    state: State, count: int, arrivals: float, service: float, fails: float, repairs: float
) -> Iterator[tuple[State, float]]:
    """Where a Markov chain of ``count`` servers goes from a state, and how often."""
    queued, busy, hung, idle = state
    if not idle:
        yield (queued + 1, busy, hung, idle), arrivals
    else:
        yield (queued, busy + idle[0], hung + (not idle[0]), idle[1:]), arrivals
    if queued:
        yield (queued - 1, busy, hung, idle), busy * service
    else:
        yield (queued, busy - 1, hung, (*idle, True)), busy * service
    yield (queued, busy - 1, hung + 1, idle), busy * fails
    yield (queued, busy + 1, hung - 1, idle), hung * repairs
    for place, runs in enumerate(idle):
        changed = (*idle[:place], not runs, *idle[place + 1 :])
        yield (queued, busy, hung, changed), fails if runs else repairs


def mean_stay_s(count: int, arrivals: float, service: float, fails: float, repairs: float, most: int = 150) -> float:
    """The exact mean stay in the chain, of which at most ``most`` wait."""
    first: State = (0, 0, 0, (True,) * count)
    numbers: dict[State, int] = {first: 0}
    rates: dict[tuple[int, int], float] = defaultdict(float)
    todo = [first]
    while todo:
        state = todo.pop()
        for other, rate in moves(state, count, arrivals, service, fails, repairs):
            if rate and other[0] <= most:
                if other not in numbers:
                    numbers[other] = len(numbers)
                    todo.append(other)
                rates[numbers[other], numbers[state]] += rate
                rates[numbers[state], numbers[state]] -= rate
    for place in range(len(numbers)):  # in the place of one equation: the probabilities add up to 1
        rates[0, place] = 1.0
    places = np.array(list(rates))
    matrix = csr_matrix((list(rates.values()), (places[:, 0], places[:, 1])))
    shares = spsolve(matrix, np.eye(1, len(numbers)).ravel())
    return sum(share * sum(state[:3]) for state, share in zip(numbers, shares, strict=True)) / arrivals


def erlang_stay_s(count: int, arrivals: float, service: float) -> float:
    load = arrivals / service
    below = sum(load**n / math.factorial(n) for n in range(count))
    full = load**count / math.factorial(count) / (1 - load / count)
    return full / (below + full) / (count * service - arrivals) + 1 / service


def test_the_chain_is_known_where_nothing_breaks_or_there_is_one_server() -> None:
    assert mean_stay_s(3, 1.8, 1.0, 0.0, 1.0) == pytest.approx(erlang_stay_s(3, 1.8, 1.0))
    f, r, arrivals = 0.1, 0.5, 0.5
    one_s = ((f + r) ** 2 + f) / ((f + r) * (r - arrivals * (f + r)))
    assert mean_stay_s(1, arrivals, 1.0, f, r) == pytest.approx(one_s)


@pytest.mark.parametrize(("count", "load"), [(2, 0.4), (3, 0.5)])
def test_several_servers_that_break_down_wait_like_their_markov_chain(count: int, load: float) -> None:
    """M/M/c with breakdowns: one queue, each server fails at rate f, busy or idle, and is repaired at rate r.

    What the chain says of a hung server: a router sees none, so it keeps the request that it has, goes on with it once
    it is repaired, and takes a new one while it hangs if it is the one that has been idle longest.
    """
    mean_up_s, mean_down_s = 5.0, 1.0
    arrivals = load * count / SERVICE_S
    expected_s = mean_stay_s(count, arrivals, 1 / SERVICE_S, 1 / mean_up_s, 1 / mean_down_s)
    found = servers(count, broken_down(mean_up_s, mttr_s=mean_down_s))
    found_s, half_width_s = mean_interval(found, arrivals)
    assert abs(found_s - expected_s) <= half_width_s
    assert half_width_s < 0.1 * expected_s
    unseen_s = erlang_stay_s(count, arrivals, 1 / (SERVICE_S * (1 + mean_down_s / mean_up_s)))
    assert abs(found_s - unseen_s) > half_width_s  # slower servers that never fail are something else


def stay_s(fails: float, service_s: float, down_s: float) -> float:
    """D. P. Gaver, "A waiting line with interrupted service, including priorities", JRSS B 24 (1962), of one request:
    work begins again from its start whenever the server fails while it runs. Who comes while it is down waits for the
    rest of the repair first; failures of a server that is down do not count.
    """
    completion_s = (1 / fails + down_s) * math.expm1(fails * service_s)
    return completion_s + fails * down_s / (1 + fails * down_s) * down_s / 2


@pytest.mark.parametrize(("mean_up_s", "down_s"), [(2.0, 1.0), (1.5, 0.25)])
def test_what_a_failure_loses_begins_again_from_the_prompt(mean_up_s: float, down_s: float) -> None:
    """Equal answers of a second each on one instance, so far apart that they hardly ever meet."""
    event = FleetEvent(kind="fail", mtbf_h=mean_up_s / 3600, duration_s=down_s)
    num, means = 120, []
    for seed in range(REPLICATIONS):
        requests = requests_of(15.0 * np.arange(1, num + 1), np.full(num, MEAN_TOKENS))
        found = with_fleet(servers(1), event, max_resends=1000)
        system, use = looked_after(UnifiedSystem, found, requests, seed)
        assert use.resent == use.requests_hit and system.counts.completed == num
        table = system.requests.table()
        means.append(float((table["finish_s"] - table["arrival_s"]).mean()))
    found_s, half_width_s = interval(means)
    expected_s = stay_s(1 / mean_up_s, SERVICE_S, down_s)
    assert abs(found_s - expected_s) <= half_width_s < 0.1 * expected_s
