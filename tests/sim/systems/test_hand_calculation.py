"""One request, alone: every time equals a calculation by hand to 1e-9."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from builders import KV_BYTES_PER_TOKEN, Row, by_request, coefficients, colocated, plan, served, workload

from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem

PROMPT, ANSWER, BUDGET = 1000, 40, 300
CHUNKS = (300, 300, 300, 100)
NIC_BYTES_PER_S = 2e6

TIMES = coefficients(
    w0_s=0.012,
    w1_s_per_token=1e-6,
    p0_s=0.002,
    p1_s_per_token=6e-5,
    a_s_per_kv_token=1e-6,
    a_mixed_s_per_kv_token=2e-6,
    b_s_per_token2=1e-8,
    prefill_chunk_floor_tokens=256,
    s_s_per_seq=3e-6,
    comm0_s=0.001,
    comm1_s_per_token=2e-7,
    const_s=0.0005,
)


def chunk_s(tokens: int, prefix: int) -> float:
    dense_s = max(0.012 + 1e-6 * tokens, 0.002 + 6e-5 * tokens)
    attention_s = 1e-8 * max(tokens, 256) * (prefix + tokens / 2)
    return dense_s + attention_s + 3e-6 + 0.001 + 2e-7 * tokens + 0.0005


def decode_s(kv_tokens: int) -> float:
    return max(0.012 + 1e-6, 0.002 + 6e-5) + 1e-6 * kv_tokens + 3e-6 + 0.001 + 2e-7 + 0.0005


@dataclass(frozen=True)
class Times:
    ready_s: list[float]
    """When each chunk is computed."""
    arrived_s: float
    """When all KV has arrived at a decode instance; chunk i leaves at max(ready_i, end_(i-1)) + bytes_i / B."""


def by_hand(start_s: float, latency_s: float, overlapped: bool) -> Times:
    ready_s, now, prefix = [], start_s, 0
    for chunk in CHUNKS:
        now += chunk_s(chunk, prefix)
        prefix += chunk
        ready_s.append(now)
    end_s = 0.0
    if overlapped:
        for ready, chunk in zip(ready_s, CHUNKS, strict=True):
            end_s = max(ready, end_s) + chunk * KV_BYTES_PER_TOKEN / NIC_BYTES_PER_S
    else:
        end_s = ready_s[-1] + PROMPT * KV_BYTES_PER_TOKEN / NIC_BYTES_PER_S
    return Times(ready_s, end_s + latency_s)


ONE = workload([Row(2.0, PROMPT, ANSWER)])


def equal(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_unified() -> None:
    found = colocated(plan(times=TIMES, max_num_batched_tokens=BUDGET, max_num_seqs=8))
    table = by_request(served(UnifiedSystem, found, ONE))
    first_s = by_hand(2.0, 0.0, True).ready_s[-1]
    equal(table["first_token_s"][0], first_s)
    equal(table["finish_s"][0], first_s + sum(decode_s(PROMPT + j) for j in range(1, ANSWER)))
    equal(table["prefill_s"][0], first_s - 2.0)
    assert table["computed_tokens"][0] == PROMPT


@pytest.mark.parametrize("contention", ["fifo", "none"])
@pytest.mark.parametrize("overlapped", [True, False])
@pytest.mark.parametrize("first_token", ["decode", "prefill"])
def test_pd(first_token: str, overlapped: bool, contention: str) -> None:
    found = plan(
        sets=(
            f"pd_separation.first_token={first_token}",
            f"pd_separation.transfer.pipelining={str(overlapped).lower()}",
            f"pd_separation.transfer.contention={contention}",
            "cluster.network.p2p_rdma_latency_us=700",
            "cluster.network.intra_rack_latency_us=300",
        ),
        times=TIMES,
        nic_bytes_per_s=NIC_BYTES_PER_S,
        max_num_batched_tokens=BUDGET,
    )
    table = by_request(served(PdSystem, found, ONE))
    hand = by_hand(2.0, 0.001, overlapped)
    if first_token == "decode":
        equal(table["first_token_s"][0], hand.arrived_s + decode_s(PROMPT))
        equal(table["finish_s"][0], hand.arrived_s + sum(decode_s(PROMPT + j) for j in range(ANSWER)))
        equal(table["first_decode_s"][0], decode_s(PROMPT))
    else:
        equal(table["first_token_s"][0], hand.arrived_s)
        equal(table["finish_s"][0], hand.arrived_s + sum(decode_s(PROMPT + j) for j in range(1, ANSWER)))
        assert table["first_decode_s"][0] == 0.0
    equal(table["prefill_s"][0], hand.ready_s[-1] - 2.0)
    equal(table["transfer_s"][0], hand.arrived_s - hand.ready_s[-1])
    assert table["transferred_bytes"][0] == PROMPT * KV_BYTES_PER_TOKEN


def test_the_transfer_is_hidden_but_for_its_last_chunk_when_the_network_is_fast() -> None:
    fast = plan(times=TIMES, nic_bytes_per_s=1e9, max_num_batched_tokens=BUDGET)
    table = by_request(served(PdSystem, fast, ONE))
    equal(table["transfer_s"][0], CHUNKS[-1] * KV_BYTES_PER_TOKEN / 1e9)


def test_another_rack_is_farther() -> None:
    sets = (
        "cluster.simulate_racks=2",
        "cluster.simulate_gpus_per_rack=1",
        "cluster.gpus_per_rack=1",
        "cluster.network.cross_rack_latency_us=5000",
    )
    near, far = plan(times=TIMES), plan(times=TIMES, sets=sets)
    near_s, far_s = (by_request(served(PdSystem, where, ONE))["first_token_s"][0] for where in (near, far))
    equal(far_s - near_s, 0.005)


def test_a_pull_takes_a_round_trip_more() -> None:
    latency = "cluster.network.p2p_rdma_latency_us=2000"
    push = plan(times=TIMES, sets=(latency,))
    pull = plan(times=TIMES, sets=(latency, "pd_separation.transfer.strategy=pull"))
    push_s, pull_s = (by_request(served(PdSystem, where, ONE))["first_token_s"][0] for where in (push, pull))
    equal(pull_s - push_s, 0.004)


@pytest.mark.parametrize("place", [(), ("cluster.network.gpus_per_host=2",)], ids=["racks", "host"])
def test_each_transfer_is_set_up(place: tuple[str, ...]) -> None:
    """Once a request, over NICs as within a host."""
    free, costly = (plan(times=TIMES, sets=(*place, f"pd_separation.transfer.setup_us={us}")) for us in (0, 3000))
    free_s, costly_s = (by_request(served(PdSystem, where, ONE))["first_token_s"][0] for where in (free, costly))
    equal(costly_s - free_s, 0.003)


def test_a_proxy_stands_before_the_queue() -> None:
    """A part of its own: all else is as without, but later."""
    two = workload([Row(2.0, PROMPT, ANSWER), Row(2.0, PROMPT, ANSWER)])
    without, behind = (plan(times=TIMES, sets=(f"pd_separation.proxy_ms={ms}",)) for ms in (0, 40))
    near, far = (by_request(served(PdSystem, where, two)) for where in (without, behind))
    assert near["proxy_s"].tolist() == [0.0, 0.0]
    assert far["proxy_s"].tolist() == pytest.approx([0.04, 0.04])
    for name in ("queue_s", "prefill_s", "interference_s", "transfer_s", "decode_wait_s", "first_decode_s"):
        assert far[name].tolist() == pytest.approx(near[name].tolist(), abs=1e-9), name
    equal(far["first_token_s"][1] - near["first_token_s"][1], 0.04)
    assert by_request(served(UnifiedSystem, colocated(behind), ONE))["proxy_s"].tolist() == [0.0]


def test_one_token_answers() -> None:
    one = workload([Row(0.0, PROMPT, 1)])
    for first_token in ("decode", "prefill"):
        found = plan(times=TIMES, sets=(f"pd_separation.first_token={first_token}",), max_num_batched_tokens=BUDGET)
        table = by_request(served(PdSystem, found, one))
        assert table["finish_s"][0] == table["first_token_s"][0]


def test_a_second_turn_hits_what_the_first_left() -> None:
    """1,000 prompt tokens are 62 blocks of 16 and a rest; the next turn starts with prompt and answer, 1,040 tokens."""
    turns = workload([Row(0.0, 0, ANSWER, ((0, PROMPT),), 0), Row(50.0, 0, 1, ((0, PROMPT + ANSWER), (-2, 60)), -2)])
    unified = by_request(served(UnifiedSystem, colocated(plan(times=TIMES)), turns))
    assert unified["hit_tokens"].tolist() == [0, 64 * 16]
    back = by_request(served(PdSystem, plan(times=TIMES), turns))
    assert back["hit_tokens"].tolist() == [0, 64 * 16]
    kept = plan(times=TIMES, sets=("pd_separation.return_generated_kv=false",))
    assert by_request(served(PdSystem, kept, turns))["hit_tokens"].tolist() == [0, 62 * 16]
    np.testing.assert_array_equal(unified["prompt_tokens"], unified["hit_tokens"] + unified["computed_tokens"])


def test_only_blocks_that_the_decode_instance_lacks_are_sent() -> None:
    again = workload([Row(0.0, 0, 2, ((0, 320),), -1), Row(50.0, 0, 2, ((0, 320),), -2)])
    table = by_request(served(PdSystem, plan(times=TIMES), again))
    assert table["transferred_bytes"].tolist() == [320 * KV_BYTES_PER_TOKEN, 16 * KV_BYTES_PER_TOKEN]
