"""Prefill on one kind of GPU and decode on another: each side as a cluster of its kind, and what lies between them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from builders import Row, by_request, check, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.capacity.cost import cost_of
from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import balanced_pd_ratio, decode_requests_per_s, prefill_requests_per_s
from kvsim.capacity.power import role_powers
from kvsim.config import load_config
from kvsim.config.effect import without_effect
from kvsim.errors import ConfigError
from kvsim.plan.instance import Role, instance_of
from kvsim.plan.plan import Plan, make_plan
from kvsim.plan.unmodelled import left_out
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.report.money import cost_lines
from kvsim.sim.run import Case, run
from kvsim.sim.systems.pd import PdSystem
from kvsim.spec import find_gpu
from kvsim.spec.power import GpuPower

BASE = (
    "model.name=llama-3.1-8b",
    "engine.tensor_parallel_size=2",
    "cluster.simulate_racks=2",
    "cluster.simulate_gpus_per_rack=8",
    "pd_separation.pd_ratio=[1,3]",
    "load.warm_caches=false",
)
A100, L40S = "pd_separation.decode_gpu=a100-80gb-sxm", "pd_separation.prefill_gpu=l40s"


def made(*sets: str) -> Plan:
    return make_plan(load_config(sets=[*BASE, *sets], mode="pd").config)


ROWS = [Row(0.05 * number, 200 + 37 * number, 20 + number % 7) for number in range(60)]


def result_of(plan: Plan, rows: list[Row] = ROWS) -> SystemResult:
    return run(Case("pd", "pd", plan, workload(rows), 3)).system


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_side_is_what_it_would_be_where_all_gpus_were_of_its_kind(role: Role) -> None:
    mixed = instance_of(load_config(sets=[*BASE, f"pd_separation.{role}_gpu=a100-80gb-sxm"]).config, role)
    alone = instance_of(load_config(sets=[*BASE, "hardware.gpu=a100-80gb-sxm"]).config, role)
    assert (mixed.spec, mixed.settings, mixed.nearest) == (alone.spec, alone.settings, alone.nearest)
    assert mixed.step_time.coefficients == alone.step_time.coefficients
    assert mixed.spec.gpu == find_gpu("a100-80gb-sxm")
    unified = instance_of(load_config(sets=[*BASE]).config)
    assert mixed.step_time.prefill_alone_s(4096, 0) > 1.5 * unified.step_time.prefill_alone_s(4096, 0)
    assert mixed.nearest is not None and mixed.nearest.profile is not None
    assert mixed.nearest.profile.gpu == find_gpu("a100-80gb-sxm")


def test_the_same_kind_by_another_name_changes_nothing() -> None:
    plain, named = made(), made("pd_separation.prefill_gpu=H100", "pd_separation.decode_gpu=NVIDIA H100 80GB HBM3")
    assert (plain.prefill.spec, plain.decode.spec, plain.places()) == (
        named.prefill.spec,
        named.decode.spec,
        named.places(),
    )
    one, other = result_of(plain), result_of(named)
    assert all((one.table[name] == other.table[name]).all() for name in one.table)


@given(st.integers(1, 7), st.sampled_from([(1, 2), (2, 2), (4, 2), (2, 1), (8, 4)]), st.sampled_from([4, 8]))
def test_a_host_has_gpus_of_one_kind(part: int, degrees: tuple[int, int], per_host: int) -> None:
    prefill, decode = degrees
    plan = made(
        A100,
        f"pd_separation.pd_ratio=[{part},{8 - part}]",
        f"pd_separation.prefill_tensor_parallel_size={prefill}",
        f"pd_separation.decode_tensor_parallel_size={decode}",
        f"cluster.network.gpus_per_host={per_host}",
    )
    places = plan.places()
    assert sum(place.is_prefill for place in places) == plan.num_prefill
    used: dict[int, int] = {}
    for place in places:
        used[place.host] = used.get(place.host, 0) + degrees[not place.is_prefill]
    if max(degrees) <= per_host:
        assert max(used.values()) <= per_host
        for host in used:
            assert len({place.is_prefill for place in places if place.host == host}) == 1
    assert plan.num_racks == max(place.rack for place in places) + 1


@pytest.mark.parametrize(("prefill", "decode", "slower"), [(25, 50, 25), (50, 12.5, 12.5), (10, 10, 10)])
def test_kv_moves_at_the_rate_of_the_slower_end(prefill: float, decode: float, slower: float) -> None:
    plan = made(
        A100,
        f"pd_separation.transfer.prefill_rdma_gb_per_s={prefill}",
        f"pd_separation.transfer.decode_rdma_gb_per_s={decode}",
        *(f"pd_separation.transfer.{key}" for key in ("pipelining=false", "setup_us=0", "rdma_latency_us=0")),
        "cluster.network.intra_rack_latency_us=0",
        "cluster.network.cross_rack_latency_us=0",
    )
    bytes_per_s = 2 * slower * 1e9 * 0.76
    assert plan.pair_bytes_per_s == pytest.approx(bytes_per_s)
    system = PdSystem(plan, workload([Row(0.0, 1600, 3)]), 1)
    system.run()
    check(system)
    kv_bytes = 1600 * 2 * 32 * 8 * 128 * 2
    assert by_request(system)["transfer_s"][0] == pytest.approx(kv_bytes / bytes_per_s, rel=1e-9)


def test_the_balanced_ratio_is_that_of_the_kinds_own_rates() -> None:
    plan = made(A100)
    demand = demand_of(workload([Row(0.0, 2000, 300), Row(0.0, 1000, 500)]), plan)
    of_kind = {gpu: made(f"hardware.gpu={gpu}") for gpu in ("h100-sxm", "a100-80gb-sxm")}
    prefill = prefill_requests_per_s(of_kind["h100-sxm"], demand)
    decode = decode_requests_per_s(of_kind["a100-80gb-sxm"], demand)
    assert prefill_requests_per_s(plan, demand) == prefill
    assert decode_requests_per_s(plan, demand) == pytest.approx(decode, rel=1e-3)
    best = max(range(1, 8), key=lambda count: min(count * prefill, (8 - count) * decode))
    assert balanced_pd_ratio(plan, demand) == (best, 8 - best)
    slow = made(L40S, "pd_separation.decode_gpu=h100-sxm")
    assert balanced_pd_ratio(slow, demand)[0] > best


def test_each_kind_costs_its_own_price_and_draws_its_own_watts() -> None:
    plan = made(
        A100,
        "cost.gpu_usd_per_hour=4",
        "cost.other_gpus=[{gpu: A100, gpu_usd_per_hour: 2, idle_w: 50, memory_bound_w: 250, compute_bound_w: 400}]",
    )
    result = result_of(plan)
    cost = cost_of(result, plan)
    hours = (result.window_s[1] - result.window_s[0]) / 3600
    assert cost.kinds is not None and [kind.gpu for kind in cost.kinds] == ["h100-sxm", "a100-80gb-sxm"]
    assert [kind.gpus for kind in cost.kinds] == [4, 12]
    assert cost.usd == pytest.approx(hours * (4 * 4 + 12 * 2))
    assert cost.gpu_usd_per_hour == pytest.approx((4 * 4 + 12 * 2) / 16)
    watts = {"h100-sxm": GpuPower(80.3, 443, 700, ""), "a100-80gb-sxm": GpuPower(50, 250, 400, "")}
    by_role = {role.role: role for role in role_powers(result, plan, watts)}
    for role, gpu in (("prefill", "h100-sxm"), ("decode", "a100-80gb-sxm")):
        alike = {one.role: one for one in role_powers(result, plan, watts[gpu])}
        assert by_role[role] == alike[role]
    drawn_w = 4 * by_role["prefill"].window_w + 12 * by_role["decode"].window_w
    assert cost.energy is not None and cost.energy.mean_gpu_power_w == pytest.approx(drawn_w / 16)
    assert cost.energy.kwh == pytest.approx(drawn_w * hours / 1000)
    assert math.fsum(kind.kwh or 0.0 for kind in cost.kinds) == pytest.approx(cost.energy.kwh)
    assert 50 < by_role["decode"].window_w < 400


def test_a_kind_of_which_nothing_is_known_leaves_the_sum_unknown() -> None:
    plan = made("pd_separation.decode_gpu=h100-pcie")
    cost = cost_of(result_of(plan), plan)
    assert cost.usd is None and cost.energy is None
    assert "h100-pcie" in cost.price_source and "cost.other_gpus" in cost.price_source
    assert "h100-pcie" in cost.power_source and "cost.other_gpus" in cost.power_source
    assert cost.kinds is not None and cost.kinds[0].usd is not None and cost.kinds[1].usd is None


def test_a_line_of_money_names_the_kinds() -> None:
    plan = made(A100, "cost.gpu_usd_per_hour=4")
    result = result_of(plan)
    told = replace(summarise(result, slo_ttft_s=2, slo_tpot_s=1, gpus=16), cost=cost_of(result, plan))
    (line,) = [line for line in cost_lines([told]) if line.startswith("Money")]
    assert "4.00 of 4 x h100-sxm and 2.50 of 12 x a100-80gb-sxm, USD a GPU-hour" in line


def test_what_the_reader_must_know_is_told() -> None:
    plan = made("pd_separation.decode_gpu=a10", "model.max_model_len=131072", "engine.tensor_parallel_size=1")
    found = left_out(plan, is_pd=True)
    assert any("not the same; compare what they cost" in text for text in found)
    assert any("on 1 x a10 a KV cache of" in text and "cannot hold" in text for text in found)
    alone = left_out(plan, is_pd=True, is_unified=False)
    assert not any("not the same" in text for text in alone)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["pd_separation.prefill_gpu=h100-smx"], "pd_separation.prefill_gpu: unknown GPU 'h100-smx'; did you mean"),
        ([A100, "hardware.memory_gib=64"], "hardware.memory_gib = 64 is of hardware.gpu = h100-sxm"),
        ([A100, "cluster.network.nvlink_gb_per_s=600"], "cluster.network.nvlink_gb_per_s = 600 is of hardware.gpu"),
        ([A100, "pd_separation.compute.prefill_tflops=400"], "pd_separation.compute.prefill_tflops = 400 is of"),
        ([A100, "steptime.method=tables", "steptime.operators=nowhere"], "a profile's times are of one GPU"),
        (["cost.other_gpus=[{gpu: nothing}]"], "cost.other_gpus[0].gpu: unknown GPU 'nothing'"),
        (["cost.other_gpus=[{gpu: H100}]"], "cost.other_gpus[0].gpu = H100 is hardware.gpu"),
        (["cost.other_gpus=[{gpu: l4}, {gpu: L4}]"], "cost.other_gpus[1].gpu = L4 stands there twice"),
        (["cost.other_gpus=[{gpu: l4, idle_w: 10}]"], "of l4 no watts are known: give cost.other_gpus[0].memory_bound"),
        (["cost.other_gpus=[{gpus: l4}]"], "cost.other_gpus[0]"),
        (["cost.other_gpus=[]"], "cost.other_gpus = []"),
    ],
)
def test_bad_input_is_one_line(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(sets=sets, mode="pd")
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_unified_run_says_that_roles_have_no_effect_there() -> None:
    config = load_config(sets=["cluster.tiers=[]", A100], mode="cluster").config
    assert "pd_separation.decode_gpu" in without_effect(config, "cluster")
