"""Every way to move KV, for one request by hand, and what jitter and a shared network do to many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, by_request, coefficients, components, plan, served, workload

from kvsim.plan.plan import Plan
from kvsim.record.result import Table
from kvsim.sim.systems.pd import PdSystem
from kvsim.spec import find_model
from kvsim.workload.synthetic.fixed import fixed

LAYERS = find_model("llama-3.1-8b").num_layers
TIMES = coefficients(p1_s_per_token=0.125, w0_s=0.5)
"""A prompt token takes 0.125 s to compute, a decode step half a second."""
SLOW, FAST = 4_000.0, 80_000.0
"""NIC bytes/s: 0.25 s a prompt token of 1,000 bytes, and 0.0125 s."""
PROMPT_TOKENS, CHUNK_TOKENS = 64, 16


def transfer(**settings: object) -> tuple[str, ...]:
    return tuple(f"pd_separation.transfer.{name}={str(value).lower()}" for name, value in settings.items())


def cluster(nic_bytes_per_s: float, *sets: str, **settings: object) -> Plan:
    """One prefill and one decode instance; prompts are computed in four chunks of two seconds."""
    changes: dict[str, object] = {"max_num_batched_tokens": CHUNK_TOKENS, **settings}
    return plan(1, 1, sets=sets, times=TIMES, nic_bytes_per_s=nic_bytes_per_s, **changes)


def transfer_s(found: Plan) -> float:
    """Of one request alone: from the end of its prefill to the arrival of its KV, or of what decode waits for."""
    table = by_request(served(PdSystem, found, workload([Row(0.0, PROMPT_TOKENS, 4)])))
    parts = components(table, 0)
    assert (parts.pop("prefill_s"), parts.pop("first_decode_s")) == (8.0, 0.5)
    moved_s = parts.pop("transfer_s", 0.0)
    assert not parts
    return moved_s


def pipelined_s(ready_s: list[float], size_s: float) -> float:
    """``f_i = max(ready_i, f_(i-1)) + b / B`` of equal chunks."""
    end_s = 0.0
    for at_s in ready_s:
        end_s = max(at_s, end_s) + size_s
    return end_s


@pytest.mark.parametrize(("nic_bytes_per_s", "expected_s"), [(SLOW, 2 + 64 * 0.25 - 8), (FAST, 16 * 0.0125)])
def test_push_chunk_after_chunk(nic_bytes_per_s: float, expected_s: float) -> None:
    size_s = CHUNK_TOKENS * 1000 / nic_bytes_per_s
    assert expected_s == pytest.approx(pipelined_s([2.0, 4.0, 6.0, 8.0], size_s) - 8)
    assert transfer_s(cluster(nic_bytes_per_s)) == pytest.approx(expected_s, abs=1e-9)


@pytest.mark.parametrize("nic_bytes_per_s", [SLOW, FAST, 8_000.0])
def test_layer_after_layer(nic_bytes_per_s: float) -> None:
    layer_s = 2.0 / LAYERS
    ready_s = [(i + 1) * layer_s for i in range(4 * LAYERS)]
    expected_s = pipelined_s(ready_s, CHUNK_TOKENS * 1000 / nic_bytes_per_s / LAYERS) - 8
    found = transfer_s(cluster(nic_bytes_per_s, *transfer(layerwise=True)))
    assert found == pytest.approx(expected_s, abs=1e-9)


def test_layers_leave_while_a_prompt_in_one_step_is_computed() -> None:
    found = cluster(FAST, *transfer(layerwise=True), max_num_batched_tokens=PROMPT_TOKENS)
    assert transfer_s(found) == pytest.approx(PROMPT_TOKENS * 1000 / FAST / LAYERS, abs=1e-9)


def test_without_overlap_all_of_it_follows_the_prefill() -> None:
    assert transfer_s(cluster(SLOW, *transfer(pipelining=False))) == pytest.approx(16.0, abs=1e-9)


def test_a_pull_takes_a_round_trip_more() -> None:
    pull = cluster(FAST, *transfer(strategy="pull", rdma_latency_us=100_000))
    push = cluster(FAST, *transfer(rdma_latency_us=100_000))
    assert transfer_s(push) == pytest.approx(0.2 + 0.1, abs=1e-9)
    assert transfer_s(pull) == pytest.approx(0.2 + 0.1 + 0.2, abs=1e-9)


def test_on_demand_all_of_it_is_fetched_when_decode_admits() -> None:
    found = cluster(FAST, *transfer(strategy="pull_on_demand", rdma_latency_us=100_000))
    assert transfer_s(found) == pytest.approx(0.8 + 0.1 + 0.2, abs=1e-9)


@pytest.mark.parametrize(("pipelining", "expected_s"), [(False, 8 * 0.25), (True, 0.0)])
def test_the_optimistic_start_waits_for_the_first_piece_alone(pipelining: bool, expected_s: float) -> None:
    sets = transfer(decode_start="first_chunk", pipeline_chunk_blocks=1, pipelining=pipelining)
    found = cluster(SLOW, *sets, block_size=8)
    assert transfer_s(found) == pytest.approx(expected_s, abs=1e-9)


def test_compression_divides_the_bytes() -> None:
    plain, packed = cluster(SLOW, *transfer(pipelining=False)), cluster(SLOW, *transfer(pipelining=False))
    packed = replace(packed, kv_bytes_per_token=plain.kv_bytes_per_token / 4)
    assert (transfer_s(plain), transfer_s(packed)) == (16.0, 4.0)


def test_every_piece_costs_a_descriptor() -> None:
    sets = transfer(pipelining=False, descriptor_us=50_000, pipeline_chunk_blocks=2)
    assert transfer_s(cluster(FAST, *sets, block_size=8)) == pytest.approx(0.8 + 4 * 0.05, abs=1e-9)


def test_nvlink_inside_a_host() -> None:
    near = cluster(SLOW, "cluster.network.gpus_per_host=2", "cluster.network.nvlink_latency_us=0")
    assert transfer_s(near) == pytest.approx(CHUNK_TOKENS * 1000 / 450e9, abs=1e-9)


def test_a_quarter_of_the_nic_takes_four_times_as_long() -> None:
    sets = transfer(pipelining=False)
    assert transfer_s(cluster(SLOW / 4, *sets)) == pytest.approx(4 * transfer_s(cluster(SLOW, *sets)), abs=1e-9)


@pytest.mark.parametrize(("delta", "second_s"), [(True, 4.0), (False, 16.0)])
def test_only_what_the_decode_instance_lacks_is_sent(delta: bool, second_s: float) -> None:
    """The second prompt shares 48 of its 64 tokens with the first, whose blocks are still on the decode instance."""
    rows = [Row(0.0, 0, 2, ((0, 48), (-1, 16))), Row(100.0, 0, 2, ((0, 48), (-2, 16)))]
    table = by_request(served(PdSystem, cluster(SLOW, *transfer(pipelining=False, delta=delta)), workload(rows)))
    assert table["transfer_s"].tolist() == pytest.approx([16.0, second_s])
    assert table["transferred_bytes"].tolist() == pytest.approx([64_000, second_s * SLOW])


@pytest.mark.parametrize("layerwise", [False, True])
def test_a_prompt_that_is_preempted_starts_its_transfer_again(layerwise: bool) -> None:
    """Two prompts grow in a pool that holds one of them: the bytes of the victim's first attempt were in vain, two
    chunks, and of the third, at whose end it is preempted, the layers that had left before."""
    rows = [Row(0.0, 64, 2), Row(0.0, 64, 2)]
    found = cluster(1e5, *transfer(layerwise=layerwise), max_num_batched_tokens=32, long_prefill_token_threshold=16)
    found = found.with_settings("prefill", num_blocks=6)
    system = served(PdSystem, found, workload(rows))
    table, in_vain_bytes = by_request(system), 32_000 + 16_000 * (1 - 1 / LAYERS) * layerwise
    assert table["preemptions"].tolist() == [0, 1]
    assert table["transferred_bytes"].tolist() == pytest.approx([64_000, 64_000 + in_vain_bytes])
    assert system.network.bytes_sent == pytest.approx(system.network.bytes_received)
    assert system.network.bytes_in_air == pytest.approx(0, abs=1e-6)


def loaded(*sets: str, seed: int = 1) -> Table:
    """Many short prompts over NICs that are the slowest part."""
    found = plan(2, 2, sets=sets, times=coefficients(const_s=0.001), nic_bytes_per_s=2e6, max_num_seqs=512)
    return by_request(served(PdSystem, found, fixed(3000, 12.0, 200, 2, "poisson", 5), seed))


def test_jitter_raises_p99_of_ttft_more_than_its_median() -> None:
    calm = loaded()
    rough = loaded(
        "cluster.network.jitter_cv=0.25",
        "cluster.network.tail_jitter_prob=0.02",
        "cluster.network.tail_jitter_multiplier=4",
    )
    before, after = (np.percentile(table["first_token_s"] - table["arrival_s"], [50, 99]) for table in (calm, rough))
    assert calm["transfer_s"].mean() > 0.9 * np.mean(calm["first_token_s"] - calm["arrival_s"])
    assert after[1] - before[1] > 5 * abs(after[0] - before[0])
    assert after[1] > 1.2 * before[1]


def test_jitter_that_is_off_changes_no_bit() -> None:
    off = loaded("cluster.network.jitter_cv=0", "cluster.network.tail_jitter_prob=0.5", "cluster.network.seed=9")
    for name, column in loaded().items():
        np.testing.assert_array_equal(column, off[name], err_msg=name)


def test_the_network_s_own_seed_changes_the_jitter_alone() -> None:
    one, same, other = (loaded("cluster.network.jitter_cv=0.5", f"cluster.network.seed={seed}") for seed in (3, 3, 4))
    np.testing.assert_array_equal(one["first_token_s"], same["first_token_s"])
    np.testing.assert_array_equal(one["arrival_s"], other["arrival_s"])
    assert (one["first_token_s"] != other["first_token_s"]).any()


def test_contention_off_is_never_slower() -> None:
    shared, free = loaded(), loaded("cluster.network.contention_enabled=false")
    assert free["transfer_s"].max() == pytest.approx(200 * 1000 / 2e6)
    assert shared["transfer_s"].mean() > 1.1 * free["transfer_s"].mean()


def test_an_oversubscribed_rack_slows_what_leaves_it() -> None:
    racks = ("cluster.simulate_racks=2", "cluster.simulate_gpus_per_rack=2", "cluster.gpus_per_rack=2")
    sets = (*racks, "routing.decode=two_choices")
    free, tight = loaded(*sets), loaded(*sets, "cluster.network.rack_oversubscription=4")
    assert tight["transfer_s"].mean() > 1.3 * free["transfer_s"].mean()
