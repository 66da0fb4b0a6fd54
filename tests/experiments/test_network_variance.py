"""The network's variance, against bytes over bandwidth and the processor-sharing queue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kvsim.experiments.bench import Bench
from kvsim.experiments.catalogue.network_variance import (
    BOTH,
    CONTENTION,
    DETERMINISTIC,
    JITTER,
    bound,
    networks,
    nic_share,
    random_sends,
)
from kvsim.plan.plan import Plan
from kvsim.sim.network.alone import Send, transfer_times_s
from kvsim.sim.run import Case, run
from kvsim.workload.synthetic.fixed import fixed

GB, MICRO = 1e9, 1e-6
BYTES = 0.5 * GB


@pytest.fixture
def plan(bench_of: Callable[..., Bench]) -> Plan:
    return bench_of("network_variance").plan


def test_one_transfer_takes_its_bytes_over_the_bandwidth_and_the_latency(plan: Plan) -> None:
    # From the prefill instance to one of the other host in its rack or another rack: NICs of four GPUs, 76% of 50 GB/s.
    (send, *_) = random_sends(plan, BYTES, 1, seed=1)
    places, network = plan.places(), plan.config.cluster.network
    same_rack = places[send.source].rack == places[send.target].rack
    latency_us = 5 + (network.intra_rack_latency_us if same_rack else network.cross_rack_latency_us)
    alone_s = BYTES / (4 * 50 * GB * 0.76) + latency_us * MICRO
    for name in (DETERMINISTIC, CONTENTION):
        assert transfer_times_s(networks(plan)[name], [send], seed=3, request_latency_s=1e-3) == [
            pytest.approx(alone_s + 1e-3, rel=1e-9)
        ]


def test_a_tail_of_all_transfers_multiplies_each(bench_of: Callable[..., Bench]) -> None:
    sets = ("cluster.network.jitter_cv=0", "cluster.network.tail_jitter_prob=1")
    plans = networks(bench_of("network_variance", *sets, "cluster.network.tail_jitter_multiplier=3").plan)
    send = Send(1.0, 0, 3, BYTES)
    (calm_s,), (slow_s,) = (transfer_times_s(plans[name], [send], seed=3) for name in (DETERMINISTIC, JITTER))
    assert slow_s == pytest.approx(3 * calm_s, rel=1e-9)


def test_jitter_of_one_request_adds_what_it_adds_to_its_transfer(bench_of: Callable[..., Bench]) -> None:
    sets = (
        "cluster.network.jitter_cv=0",
        "cluster.network.tail_jitter_prob=1",
        "cluster.network.tail_jitter_multiplier=3",
    )
    plans = networks(bench_of("network_variance", *sets).plan)
    workload = fixed(1, 1.0, 2_000, 5, "constant", seed=1)
    found = {name: run(Case(name, "pd", plans[name], workload, 7)).system.table for name in plans}
    ttft_s = {name: float(table["first_token_s"][0] - table["arrival_s"][0]) for name, table in found.items()}
    transfer_s = float(found[DETERMINISTIC]["transfer_s"][0])
    assert transfer_s > 0
    assert ttft_s[CONTENTION] == ttft_s[DETERMINISTIC]
    assert ttft_s[JITTER] - ttft_s[DETERMINISTIC] == pytest.approx(2 * transfer_s, rel=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_transfers_that_share_wait_as_by_processor_sharing(plan: Plan, seed: int) -> None:
    # One source, NICs 70% busy: a mean transfer takes 1 / (1 - 0.7) of one alone; jitter comes on top of that.
    sends = random_sends(plan, BYTES, 3_000, seed)
    plans = networks(plan)
    means_s = {name: float(np.mean(transfer_times_s(plans[name], sends, seed))) for name in plans}
    assert means_s[CONTENTION] / means_s[DETERMINISTIC] == pytest.approx(1 / 0.3, rel=0.2)
    assert means_s[DETERMINISTIC] < means_s[JITTER] < means_s[CONTENTION] < means_s[BOTH]


def test_links_bind_where_kv_takes_that_share_of_them(plan: Plan) -> None:
    assert nic_share(bound(plan, 1e9), 1e9) == pytest.approx(0.7)
    assert bound(plan, 1e12) is plan
