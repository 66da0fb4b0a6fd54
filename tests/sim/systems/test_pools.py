"""Unified instances of several kinds: each as a cluster of its own, who gets a request, and equal kinds as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, check, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.capacity.cost import cost_of
from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import colocated_requests_per_s, maximum_rate
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.mode import PD, PREDICT
from kvsim.plan.plan import Plan
from kvsim.plan.pools import Pool, pools_of, scaled, slowness
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.sim.run import Case, run
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.study.context import changed_plan
from kvsim.workload.workload import Workload

BASE = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "load.warm_caches=false")
MIXED = "cluster.pools=[{gpu: a10, instances: 4}, {gpu: h100-sxm, instances: 2}]"
ROUTERS = ("affinity", "least_loaded", "two_choices", "round_robin", "dynamo", "llmd", "sglang")


def made(*sets: str, gpus: int = 6) -> Plan:
    sizes = ("cluster.simulate_racks=1", f"cluster.simulate_gpus_per_rack={gpus}")
    return PREDICT.plan(load_config(sets=[*BASE, *sizes, "model.max_model_len=8192", *sets], mode="predict").config)


def served(plan: Plan, given: Workload, seed: int = 1, **case: bool) -> SystemResult:
    return run(Case("unified", "unified", plan, given, seed, **case)).system


def same(one: SystemResult, other: SystemResult) -> bool:
    return all((one.table[name] == other.table[name]).all() for name in one.table)


def traffic(number: int, every_s: float, prompt: int = 400, output: int = 30) -> Workload:
    """Prompts that share nothing, of two lengths, and some that go on from the one before."""
    rows = []
    for place in range(number):
        tokens = prompt + 61 * (place % 9)
        pieces = ((place // 4, 160), (-1 - place, tokens - 160)) if place % 4 else ((place // 4, 160),)
        rows.append(Row(every_s * place, output_tokens=output + place % 5, pieces=pieces, session_id=place // 4))
    return workload(rows)


def test_an_idle_pool_serves_long_prompts_on_the_fast_kind() -> None:
    plan = made(MIXED)
    lone = workload([Row(20.0 * number, 6000, 4) for number in range(12)])
    assert set(served(plan, lone).table["prefill_instance"]) == {4.0, 5.0}
    many = workload([Row(0.0, 6000, 4) for _ in range(60)])
    counts = np.bincount(served(plan, many).table["prefill_instance"].astype(int), minlength=6)
    factor = slowness(plan.pools)[0]
    # Each kind has requests for as long, the one that comes next counted: the fast one that many times more of them.
    assert (counts[4:] + 1).mean() / (counts[:4] + 1).mean() == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("router", ["affinity", "least_loaded"])
def test_nobody_queues_on_the_fast_kind_while_the_slow_one_has_seats(router: str) -> None:
    plan = made(MIXED, f"routing.prefill={router}", "engine.max_num_seqs=24")
    placed = served(plan, workload([Row(0.0, 600, 40) for _ in range(24 * 6)])).table["prefill_instance"]
    assert np.bincount(placed.astype(int)).tolist() == [24] * 6


@pytest.mark.parametrize("router", ["affinity", "least_loaded"])
def test_at_saturation_kinds_serve_what_each_serves_alone(router: str) -> None:
    sets = f"routing.prefill={router}", "engine.max_num_seqs=24"
    mixed = made(MIXED, *sets)
    demand = demand_of(workload([Row(0.0, 1500, 40)]), mixed)
    kinds = [own.num_instances * colocated_requests_per_s(own, demand) for own in mixed.by_kind()]
    assert maximum_rate(mixed, demand, "unified") == pytest.approx(sum(kinds))

    number = 1600

    def served_per_s(plan: Plan, possible_per_s: float) -> float:
        """Completions while requests come at 1.3 times what is possible."""
        last_s = number / (1.3 * possible_per_s)
        result = served(plan, workload([Row(last_s * place / number, 1500, 40) for place in range(number)]))
        finish_s = result.table["finish_s"]
        return int(((finish_s > 0.3 * last_s) & (finish_s <= last_s)).sum()) / (0.7 * last_s)

    together = served_per_s(mixed, sum(kinds))
    alone = [
        served_per_s(made(*sets, f"hardware.gpu={gpu}", gpus=count), possible_per_s)
        for gpu, count, possible_per_s in (("a10", 4, kinds[0]), ("h100-sxm", 2, kinds[1]))
    ]
    assert together == pytest.approx(sum(alone), rel=0.04)
    assert together == pytest.approx(sum(kinds), rel=0.04)


@pytest.mark.parametrize("router", ROUTERS)
def test_equal_kinds_are_one(router: str) -> None:
    routing = f"routing.prefill={router}"
    plain = made(routing)
    twice = made(routing, "cluster.pools=[{gpu: H100, instances: 2}, {gpu: h100-sxm, instances: 4}]")
    assert not twice.pools and twice.num_instances == 6
    apart = replace(plain, pools=(Pool(plain.colocated, 2), Pool(plain.colocated, 4)))
    requests = traffic(200, 0.01)
    expected = served(plain, requests)
    assert same(served(twice, requests), expected)
    found = served(apart, requests)
    assert same(found, expected)
    assert [pool.requests for pool in found.roles[0].pools] == [
        int((expected.table["prefill_instance"] < 2).sum()),
        int((expected.table["prefill_instance"] >= 2).sum()),
    ]
    assert found.itl.mean == pytest.approx(expected.itl.mean, rel=1e-12)
    assert found.roles[0].busy == pytest.approx(expected.roles[0].busy)


@pytest.mark.parametrize("router", ROUTERS)
def test_leaps_are_single_steps(router: str) -> None:
    given = f"routing.prefill={router}", MIXED
    leaps = made(*given)
    single = leaps.with_settings("colocated", stepwise=True)
    assert all(pool.instance.settings.stepwise for pool in single.pools)
    requests = traffic(120, 0.02)
    one, other = served(leaps, requests), served(single, requests)
    assert all(one.table[name] == pytest.approx(other.table[name], abs=1e-9) for name in one.table)


def test_rows_by_kind_add_up() -> None:
    plan = made(
        MIXED,
        "cost.gpu_usd_per_hour=4",
        "cost.other_gpus=[{gpu: a10, gpu_usd_per_hour: 1, idle_w: 20, memory_bound_w: 120, compute_bound_w: 150}]",
    )
    system = UnifiedSystem(plan, traffic(300, 0.02), 1)
    system.run()
    check(system)
    result = served(plan, traffic(300, 0.02))
    (role,) = result.roles
    assert [pool.gpu for pool in role.pools] == ["a10", "h100-sxm"]
    assert sum(pool.requests for pool in role.pools) == len(result.table["finish_s"])
    assert sum(pool.query_tokens for pool in role.pools) == result.cache.query_tokens
    assert sum(pool.hit_tokens for pool in role.pools) == result.cache.hit_tokens
    assert role.gpus == 6 == sum(pool.use.gpus for pool in role.pools)
    busy = sum(pool.use.busy * pool.use.instances for pool in role.pools) / 6
    assert busy == pytest.approx(role.busy, abs=1e-3)
    assert role.held is not None
    by_kind = [pool.use.held for pool in role.pools]
    total = [0.0 if held is None else float(held.block_s[-1]) for held in by_kind]
    assert sum(total) == pytest.approx(float(role.held.block_s[-1]))
    cost = cost_of(result, plan)
    hours = (result.window_s[1] - result.window_s[0]) / 3600
    assert cost.usd == pytest.approx(hours * (2 * 4 + 4 * 1))
    assert cost.kinds is not None and cost.energy is not None
    drawn = [(kind.mean_gpu_power_w or 0.0) * kind.gpus for kind in cost.kinds]
    assert 4 * 20 <= drawn[0] <= 4 * 150 and 2 * 80.3 <= drawn[1] <= 2 * 700
    assert cost.energy.mean_gpu_power_w == pytest.approx(sum(drawn) / 6)
    told = summarise(result, slo_ttft_s=2, slo_tpot_s=1, gpus=6).utilisation["colocated"].kinds
    assert told is not None and [kind.instances for kind in told] == [4, 2]


def test_a_request_goes_where_its_blocks_are() -> None:
    """An A10 holds far fewer tokens than the model takes."""
    plan = made("model.max_model_len=131072", MIXED, "routing.prefill=round_robin")
    small, large = (pool.instance.settings.room_tokens for pool in plan.pools)
    assert small < 60_000 < 131_000 < large
    result = served(plan, workload([Row(0.1 * place, 100_000 if place % 2 else 2_000, 5) for place in range(12)]))
    long = result.table["prompt_tokens"] == 100_000
    assert set(result.table["prefill_instance"][long]) <= {4.0, 5.0} and long.sum() == 6
    assert set(result.table["prefill_instance"][~long]) & {0.0, 1.0, 2.0, 3.0}
    assert result.failed == 0
    blocks = "engine.num_gpu_blocks_override=1000"
    tight = served(made(MIXED, blocks, "model.max_model_len=131072"), workload([Row(0.0, 20_000, 5), Row(1.0, 20, 5)]))
    assert (tight.failed, tight.completed) == (1, 1)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(1, 60))
def test_a_smaller_cluster_has_the_same_proportion(counts: list[int], wanted: int) -> None:
    instance = made().colocated
    pools = scaled([Pool(instance, count) for count in counts], wanted)
    found = [pool.instances for pool in pools]
    assert min(found) >= 1
    assert sum(found) == wanted or sum(found) <= wanted + len(counts)
    for own, count in zip(found, counts, strict=True):
        assert abs(own - count * wanted / sum(counts)) <= 1


def test_pools_have_arguments_of_their_own() -> None:
    pool = "{gpu: a10, instances: 1, tensor_parallel_size: 4, max_num_batched_tokens: 512, gpu_memory_utilization: 0.8}"
    plan = made(f"cluster.pools=[{{gpu: h100-sxm, instances: 4}}, {pool}]", gpus=8)
    fast, slow = (pool.instance for pool in plan.pools)
    assert (slow.degree, slow.settings.max_num_batched_tokens, slow.settings.max_num_seqs) == (4, 512, 512)
    assert (fast.degree, fast.settings.max_num_batched_tokens, fast.settings.max_num_seqs) == (1, 8192, 1024)
    assert slow.spec.memory_utilisation == 0.8
    tuned = plan.with_colocated_budget(2048)
    assert [pool.instance.settings.max_num_batched_tokens for pool in tuned.pools] == [2048, 512]
    assert tuned.colocated == tuned.pools[0].instance
    places = plan.unified_places()
    assert {place.host for place in places[:4]}.isdisjoint({place.host for place in places[4:]})


def test_pd_beside_pools_is_on_the_same_gpus() -> None:
    sets = ("cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=8", "pd_separation.pd_ratio=[1,1]")
    pools = "cluster.pools=[{gpu: h100-sxm, instances: 4}, {gpu: a10, instances: 4}]"
    plan = PD.plan(load_config(sets=[*BASE, *sets, pools, "pd_separation.decode_gpu=a10"], mode="pd").config)
    assert (plan.num_gpus, plan.num_prefill, plan.num_decode) == (8, 4, 4)
    small = plan.scaled_to(2)
    assert [pool.instances for pool in small.pools] == [1, 1] and small.num_gpus == 2


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["cluster.pools=[{gpu: h100}]"], "cluster.pools[0].instances is missing"),
        (["cluster.pools=[{gpu: hundred, instances: 6}]"], "cluster.pools[0].gpu: unknown GPU 'hundred'"),
        (["cluster.pools=[{gpu: l4, instances: 5}]"], "cluster.pools have 5 GPUs, and cluster.simulate_racks x"),
        (["cluster.pools=[{gpu: l4, instances: 6, seats: 3}]"], "cluster.pools[0].seats"),
        (["cluster.pools=[]"], "cluster.pools = []"),
        (["cluster.pools=[{gpu: l4, instances: 6, max_num_seqs: 9000}]"], "holds none of 9000 sequences"),
        ([MIXED, "pd_separation.tiers=[dram]"], "pd_separation.tiers must be []"),
        ([MIXED, "engine.data_parallel_size=2"], "engine.data_parallel_size must be 1"),
        ([MIXED, "hardware.memory_gib=60"], "hardware.memory_gib = 60 is of hardware.gpu = h100-sxm: beside"),
        ([MIXED, "steptime.method=tables", "steptime.operators=x"], "steptime.method = 'tables' must be"),
    ],
)
def test_bad_input_is_one_line(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(*sets)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_nobody_has_pools_where_none_are_given() -> None:
    assert pools_of(load_config().config) == ()


def test_a_changed_plan_keeps_every_budget() -> None:
    sizes = ("cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=8")
    pools = "cluster.pools=[{gpu: a10, instances: 4, max_num_batched_tokens: 512}, {gpu: h100-sxm, instances: 4}]"
    plan = PD.plan(load_config(sets=[*BASE, *sizes, pools], mode="pd").config).with_colocated_budget(2048)
    found = changed_plan(plan, {"routing.prefill": "least_loaded"}, "here")
    assert [pool.instance.settings.max_num_batched_tokens for pool in found.pools] == [512, 2048]
    assert plan.of_instances(16).num_gpus == 16
