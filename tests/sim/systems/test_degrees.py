"""Prefill and decode instances of different tensor parallelism: counts, places, transfers by hand."""

from __future__ import annotations

import pytest
from builders import Row, by_request, check, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import balanced_pd_ratio, decode_requests_per_s, prefill_requests_per_s
from kvsim.config import load_config
from kvsim.config.derived import pd_counts
from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.plan import Plan, first_fit, make_plan
from kvsim.sim.systems.pd import PdSystem

PROMPT_TOKENS = 1600


def made(prefill: int, decode: int, *sets: str, racks: int = 2) -> Plan:
    base = (
        "model.name=llama-3.1-8b",
        "engine.tensor_parallel_size=4",
        f"pd_separation.prefill_tensor_parallel_size={prefill}",
        f"pd_separation.decode_tensor_parallel_size={decode}",
        f"cluster.simulate_racks={racks}",
        "cluster.simulate_gpus_per_rack=8",
        "pd_separation.pd_ratio=[1,1]",
        "pd_separation.transfer.pipelining=false",
        "cluster.network.p2p_rdma_latency_us=0",
        "pd_separation.transfer.setup_us=0",
        "cluster.network.intra_rack_latency_us=0",
        "cluster.network.cross_rack_latency_us=0",
        "load.warm_caches=false",
    )
    return make_plan(load_config(sets=[*base, *sets]).config)


def transfer_s(plan: Plan) -> float:
    """Of the only request, on the first pair of instances."""
    system = PdSystem(plan, workload([Row(0.0, PROMPT_TOKENS, 3)]), 1)
    system.run()
    check(system)
    return float(by_request(system)["transfer_s"][0])


@pytest.mark.parametrize(("prefill", "decode", "nics"), [(2, 8, 2), (8, 2, 2), (8, 8, 8)])
def test_kv_moves_over_the_nics_of_the_smaller_side(prefill: int, decode: int, nics: int) -> None:
    plan = made(prefill, decode)
    nic_bytes_per_s = 50e9 * 0.76
    kv_bytes = PROMPT_TOKENS * 2 * 32 * 8 * 128 * 2
    assert plan.pair_bytes_per_s == nics * nic_bytes_per_s
    assert transfer_s(plan) == pytest.approx(kv_bytes / (nics * nic_bytes_per_s), rel=1e-9)


def test_each_gpu_of_a_side_wider_than_the_kv_heads_gets_its_copy() -> None:
    hosts = ("cluster.network.gpus_per_host=16", "cluster.simulate_gpus_per_rack=16")
    wide, narrow = made(8, 16, *hosts), made(8, 8, *hosts)
    assert wide.kv_bytes_per_token == 2 * narrow.kv_bytes_per_token
    assert wide.decode_settings.num_blocks < 2 * narrow.decode_settings.num_blocks


@pytest.mark.parametrize(
    ("prefill", "decode", "counts"), [(2, 8, (3, 3)), (8, 2, (3, 4)), (4, 4, (4, 4)), (1, 8, (4, 3))]
)
def test_the_gpus_are_filled_at_the_ratio_of_instances(prefill: int, decode: int, counts: tuple[int, int]) -> None:
    plan = made(prefill, decode, racks=4)
    assert (plan.num_prefill, plan.num_decode) == counts == pd_counts(plan.config)
    assert plan.num_prefill * prefill + plan.num_decode * decode <= plan.num_gpus == 32


def test_a_side_whose_gpus_do_not_hold_the_weights_is_named() -> None:
    with pytest.raises(CapacityError, match=r"; pd_separation.prefill_tensor_parallel_size 4 would fit$"):
        made(1, 8, "model.name=llama-3.1-70b")


@given(st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=60))
def test_nobody_lies_across_the_edge_of_a_host_and_nobody_on_another(degrees: list[int]) -> None:
    taken: set[int] = set()
    for first, degree in zip(first_fit(degrees, 8), degrees, strict=True):
        gpus = set(range(first, first + degree))
        assert not gpus & taken
        assert first // 8 == (first + degree - 1) // 8 or first % 8 == 0
        taken |= gpus
    begun = {gpu // 8 for gpu in taken}
    assert len(begun) * 8 - len(taken) < 16


def test_balance_weighs_instances_by_their_gpus() -> None:
    plan = made(2, 8, racks=40)
    demand = demand_of(workload([Row(float(i), 2000, 300) for i in range(40)]), plan)
    prefill, decode = balanced_pd_ratio(plan, demand)
    served = [prefill * prefill_requests_per_s(plan, demand), decode * decode_requests_per_s(plan, demand)]
    other = plan.decode_beside(prefill + 4)
    worse = [(prefill + 4) * prefill_requests_per_s(plan, demand), other * decode_requests_per_s(plan, demand)]
    assert min(served) >= min(worse) and prefill * 2 + decode * 8 <= plan.num_gpus


def test_unequal_degrees_serve_and_balance_their_books() -> None:
    rows = [Row(i * 0.01, 200 + 40 * (i % 7), 5 + i % 9) for i in range(300)]
    system = PdSystem(made(2, 8, racks=4), workload(rows), 1)
    system.run()
    check(system)
    assert system.counts.completed == 300


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (("pd_separation.prefill_tensor_parallel_size=3",), "prefill_tensor_parallel_size = 3"),
        (("pd_separation.decode_tensor_parallel_size=0",), "decode_tensor_parallel_size"),
    ],
)
def test_degrees_that_do_not_fit_are_refused_in_one_line(sets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        made(4, 4, *sets)
    assert "\n" not in str(refused.value)


def test_a_request_that_only_one_side_holds_fails_rather_than_waits_for_ever() -> None:
    plan = made(8, 2, racks=4)
    held_tokens = plan.decode_settings.num_blocks * plan.decode_settings.block_size
    assert held_tokens < plan.prefill_settings.num_blocks * plan.prefill_settings.block_size
    rows = [Row(0.0, min(held_tokens, 130_000), 200), *(Row(0.1 * i, 300, 5) for i in range(1, 21))]
    small = plan.with_settings("decode", num_blocks=2000)
    system = PdSystem(small, workload(rows), 1)
    system.run()
    assert (system.counts.completed, system.counts.failed) == (20, 1)
