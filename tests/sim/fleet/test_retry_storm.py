"""Retries that keep a server overloaded after what overloaded it is over, on a system in which nothing is drawn.

N. Bronson, A. Aghayev, A. Charapko and T. Zhu, "Metastable failures in distributed systems" (HotOS 2021): a system in
a vulnerable state is pushed over by a trigger, and a sustaining effect holds it there when the trigger is gone.

The system: one seat, first come, first served; a request every two seconds; a client that gives an attempt up after
eleven, and tries once more. An answer takes ``service_s``, so first attempts are about half of what the seat can do,
and first and second ones together, one a second, are ``service_s`` times that: 1.05 or 0.95 of capacity.

The trigger: for half a minute no step begins. The queue is then full of attempts that are nearly as old as their
clients' patience. When its head is given up, the next one, which was sent g seconds later, has g seconds left. It gets
its answer if ``g >= service_s``; else its client gives up just before the end, what was computed is for nothing, and it
sends a second attempt. These come half-way between two first ones, as eleven is odd, so that g is one second for all:
at 1.05 x capacity nobody is served any more, and it is this that makes each client send twice. At 0.95 x capacity the
first one that is at the head is served, and so are all behind it.
"""

from __future__ import annotations

import numpy as np
import pytest
from builders import coefficients, colocated, looked_after, plan, with_clients, with_fleet

from kvsim.config.fleet_keys import FleetEvent
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

STEP_S = 0.05
TIMEOUT_S = 11.0
TRIGGER_AT_S = 100.0
LAST_S = 1500.0


def served_share(service_s: float, trigger_s: float, gap_s: float = 2.0, **clients: float) -> tuple[float, float]:
    """Shares of requests that get an answer: of all, and of those that come from 1,000 to 1,400 s, when the load is as
    it was from the start on; at 1,500 s it ends.
    """
    found = colocated(plan(times=coefficients(const_s=STEP_S), max_num_seqs=1, enable_prefix_caching=False))
    if trigger_s:
        event = FleetEvent(kind="hang", at_s=TRIGGER_AT_S, role="colocated", instance=0, duration_s=trigger_s)
        found = with_fleet(found, event)
    patience = {"timeout_s": TIMEOUT_S, "retries": 1, "backoff_s": 0.0, "backoff_jitter": 0.0, "backoff_max_s": 600.0}
    found = with_clients(found, **patience | clients)
    arrival_s = np.arange(0.0, LAST_S, gap_s)
    num = len(arrival_s)
    tokens = np.full(num, round(service_s / STEP_S), dtype=np.int32)
    requests = Workload.private(arrival_s, np.ones(num, dtype=np.int32), tokens, WorkloadInfo("test", "synthetic"))
    system, _ = looked_after(UnifiedSystem, found, requests)
    done_s = system.requests.table()["arrival_s"]
    late = [((times_s >= 1000) & (times_s < 1400)).sum() for times_s in (done_s, arrival_s)]
    return len(done_s) / num, float(late[0] / late[1])


def test_without_a_trigger_nobody_needs_a_second_attempt() -> None:
    assert served_share(1.05, trigger_s=0.0) == (1.0, 1.0)


def test_retries_at_once_at_105_percent_of_capacity_never_let_it_come_back() -> None:
    overall, late = served_share(1.05, trigger_s=30.0)
    assert late == 0.0
    assert overall == pytest.approx(TRIGGER_AT_S / LAST_S, abs=0.02)


def test_retries_at_once_at_95_percent_of_capacity_do() -> None:
    overall, late = served_share(0.95, trigger_s=30.0)
    assert late == 1.0
    assert overall > 0.99


def test_without_retries_nothing_sustains_it() -> None:
    overall, late = served_share(1.05, trigger_s=30.0, retries=0)
    assert late == 1.0
    assert overall > 0.95


@pytest.mark.parametrize("jitter", [0.0, 0.5])
def test_with_back_off_behind_the_trigger_it_comes_back(jitter: float) -> None:
    """Second attempts wait until the queue is short again; in between first ones are two seconds apart."""
    assert served_share(1.05, trigger_s=30.0, backoff_s=60.0, backoff_jitter=jitter) == (1.0, 1.0)


def test_back_off_within_the_trigger_needs_jitter() -> None:
    """Second attempts, ten seconds later, are there before the trigger is over, and as evenly as without: what helps
    then is that jitter makes some gaps longer than an answer takes.
    """
    assert served_share(1.05, trigger_s=30.0, backoff_s=10.0)[1] == 0.0
    assert served_share(1.05, trigger_s=300.0, backoff_s=60.0)[1] == 0.0
    assert served_share(1.05, trigger_s=30.0, backoff_s=10.0, backoff_jitter=0.5)[1] == 1.0
    assert served_share(1.05, trigger_s=300.0, backoff_s=60.0, backoff_jitter=0.5)[1] == 1.0


def test_no_back_off_helps_where_first_attempts_alone_are_too_many() -> None:
    """A request a second, of 1.05 s each: the queue is as old as the patience before long, with no trigger at all."""
    assert served_share(1.05, trigger_s=0.0, gap_s=1.0, backoff_s=60.0, backoff_jitter=0.5)[1] < 0.05
    assert served_share(1.05, trigger_s=0.0, gap_s=1.0, retries=0)[1] < 0.05
