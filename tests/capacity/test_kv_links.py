"""What links let through: closed forms on a few hosts, and what saturated systems on them do."""

from __future__ import annotations

import numpy as np
import pytest
from builders import KV_BYTES_PER_TOKEN, Row, coefficients, plan, workload

from kvsim.capacity.demand import Demand, SharedPrompts, demand_of
from kvsim.capacity.kv_links import KvLinks
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate, pd_requests_per_s
from kvsim.plan.plan import Plan
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.pd import PdSystem

TOKENS = 100
NIC = TOKENS * KV_BYTES_PER_TOKEN
"""One request a second."""
FAST = coefficients(const_s=1e-3)


def asked(returned_tokens: float = 0.0) -> Demand:
    """Prompts of ``TOKENS`` and answers of five."""
    prompts = np.full(50, float(TOKENS))
    shared = SharedPrompts(np.zeros(0), np.zeros(0), float(TOKENS))
    return Demand(prompts, np.full(50, 5.0), np.zeros(50), prompts, returned_tokens, shared)


def hosts_of(
    prefill: int, decode: int, per_host: int, *sets: str, host_link: float = 1e3, rack: int | None = None
) -> Plan:
    """NICs carry a request/s, links inside a host ``host_link``; racks of ``rack`` GPUs."""
    total = prefill + decode
    rack = rack or total
    layout = (
        f"cluster.network.gpus_per_host={per_host}",
        f"cluster.network.nvlink_gb_per_s={2 * host_link * NIC / 1e9}",
        "cluster.network.nvlink_latency_us=0",
        f"cluster.simulate_gpus_per_rack={rack}",
        f"cluster.gpus_per_rack={rack}",
        f"cluster.simulate_racks={total // rack}",
    )
    found = plan(prefill, decode, sets=(*layout, *sets), times=FAST, nic_bytes_per_s=NIC, num_blocks=190)
    return found.with_settings("prefill", num_blocks=600)


CASES = {
    # All KV stays inside.
    "one host": (hosts_of(2, 2, 4, host_link=6), 12.0),
    # Half of the pairs are inside, so NICs carry half.
    "two hosts": (hosts_of(4, 4, 4, "routing.decode=two_choices"), 8.0),
    "slow inside": (hosts_of(4, 4, 4, host_link=0.5), 4.0),
    "hosts of one": (hosts_of(2, 2, 1), 2.0),
    # The prefill instance's NICs feed the two on the other host, its own host's takes what it can.
    "1 : 3": (hosts_of(1, 3, 2, host_link=5), 6.0),
    # All of it crosses, over uplinks of a quarter of their rack's NIC.
    "a rack each": (hosts_of(1, 1, 1, "cluster.network.rack_oversubscription=4", rack=1), 0.25),
    # Two decode instances share half a NIC of uplink, the third stands beside the prefill instance.
    "1 : 3 in two racks": (hosts_of(1, 3, 2, "cluster.network.rack_oversubscription=4", host_link=5, rack=2), 5.5),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_forms(name: str) -> None:
    found, expected = CASES[name]
    assert KvLinks(found, asked()).requests_per_s(1e9) == pytest.approx(expected)


@pytest.mark.parametrize("name", CASES)
def test_saturated(name: str) -> None:
    """At 1.5 x the maximum, prompts a second in the last half, in whole ``TOKENS``."""
    found, expected = CASES[name]
    random, number = np.random.default_rng(1), 2400
    arrival_s = np.cumsum(random.exponential(1 / (1.5 * expected), number)).tolist()
    prompts = random.integers(20, 2 * TOKENS - 19, number).tolist()
    requests = workload([Row(at_s, tokens, 5) for at_s, tokens in zip(arrival_s, prompts, strict=True)])
    assert maximum_rate(found, demand_of(requests, found), "pd") == pytest.approx(expected, rel=0.02)
    run = PdSystem(found, requests, 1)
    end_s = arrival_s[-1]
    run.clock.schedule(end_s, callback=lambda _: run.clock.stop())
    run.run()
    table = outcome(run, warmup_requests=0, unsteady_factor=1.0).table
    done = table["finish_s"] > end_s / 2
    assert table["prompt_tokens"][done].sum() / TOKENS / (end_s / 2) == pytest.approx(expected, rel=0.03)


def test_one_host_is_no_matter_of_its_nics() -> None:
    found = hosts_of(1, 1, 2)
    slow = found.with_instances(nic_bytes_per_s=1.0)
    assert pd_requests_per_s(slow, asked()) == pd_requests_per_s(found, asked())
    assert maximum_rate(slow, asked(), "pd") > 100


def test_half_of_the_pairs_of_two_racks_cross() -> None:
    """Uplinks are as much as one NIC of four, and each way has half of the pairs that cross."""
    sets = "cluster.network.rack_oversubscription=4", "routing.decode=two_choices"
    assert KvLinks(hosts_of(4, 4, 4, *sets, rack=4), asked()).requests_per_s(1e9) == pytest.approx(4.0)


def test_racks_of_their_own_need_no_uplink() -> None:
    """The router prefers a rack as long as its decode instances are not fuller than others."""
    sets = "cluster.network.rack_oversubscription=1000"
    assert KvLinks(hosts_of(4, 4, 1, sets, rack=4), asked()).requests_per_s(1e9) == pytest.approx(4.0)


def test_answers_go_back_the_other_way() -> None:
    assert KvLinks(hosts_of(2, 2, 1), asked(TOKENS)).requests_per_s(1e9) == pytest.approx(2.0)
    assert KvLinks(hosts_of(2, 2, 1), asked(2.0 * TOKENS)).requests_per_s(1e9) == pytest.approx(1.0)


def test_descriptors_and_tails_take_links() -> None:
    """Seven pieces of a block, a tenth of a second each; one transfer in four takes three times as long."""
    sets = (
        "pd_separation.transfer.descriptor_us=100000",
        "pd_separation.transfer.pipeline_chunk_blocks=1",
        "cluster.network.tail_jitter_prob=0.25",
        "cluster.network.tail_jitter_multiplier=3",
    )
    assert KvLinks(hosts_of(2, 2, 1, *sets), asked()).requests_per_s(1e9) == pytest.approx(2 / 1.7 / 1.5)


def test_links_without_contention_are_no_limit() -> None:
    found = hosts_of(2, 2, 1, "cluster.network.contention_enabled=false")
    assert KvLinks(found, asked()).requests_per_s(7.0) == 14.0


@pytest.mark.parametrize("per_host", [1, 4, 12])
def test_balanced_ratio_where_links_are_the_limit(per_host: int) -> None:
    found = hosts_of(6, 6, per_host)
    prefill, decode = balanced_pd_ratio(found, asked())
    rates = [maximum_rate(found.with_counts(p, 12 - p), asked(), "pd") for p in range(1, 12)]
    assert prefill + decode == 12
    assert rates[prefill - 1] == pytest.approx(max(rates))
