"""Money and energy of a run by hand, of twice as much, of GPUs that nothing is known of, and beside measurements."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvsim
from kvsim.capacity.cost import HOURS_PER_MONTH, cost_of
from kvsim.capacity.power import power_of, role_powers
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.plan import Plan, unified_plan
from kvsim.record.figures import Cost
from kvsim.record.fleet import FleetUse, RoleFleet
from kvsim.record.percentiles import distribution
from kvsim.record.result import COLUMNS, CacheUse, RoleUse, SystemResult, TierUse
from kvsim.spec.power import POWERS, GpuPower
from kvsim.spec.prices import USD_PER_S

WATTS = ("cost.power.idle_w=100", "cost.power.memory_bound_w=400", "cost.power.compute_bound_w=700")
LLAMA_8B_PARAMS = 8_030_261_248
EMBEDDING = 128_256 * 4096


def plan_of(*sets: str, instances: int = 1, tensor_parallel: int = 1) -> Plan:
    own = ("model.name=meta-llama/Llama-3.1-8B-Instruct", f"engine.tensor_parallel_size={tensor_parallel}")
    return unified_plan(load_config(sets=[*own, *sets], mode="instance").config, instances)


def served(
    plan: Plan, rows: int = 64, *, busy: float = 1.0, prompt: int = 1, output: int = 101, **changes: Any
) -> SystemResult:
    """Requests that decode side by side for 100 s, on each instance as many, none of them computed before."""
    instances = plan.num_instances
    table = {name: np.zeros(rows * instances) for name in COLUMNS}
    table |= {
        "prompt_tokens": np.full(rows * instances, float(prompt)),
        "output_tokens": np.full(rows * instances, float(output)),
        "finish_s": np.full(rows * instances, 100.0),
    }
    role = RoleUse("colocated", instances, plan.num_gpus, busy, math.nan, math.nan, np.zeros(1), np.full(1, busy))
    result = SystemResult(
        name="unified", arrived=rows, completed=rows, failed=0, in_flight=0, table=table,
        measured=np.ones(rows * instances, dtype=np.bool_), window_s=(0.0, 100.0), itl=distribution(np.zeros(0)),
        roles=(role,), cache=CacheUse(0, 0, 0, 1, 0), transfer=None, checks=(), end_s=100.0, sim_cpu_s=0.0, events=0,
        steady=True, steady_why="",
    )  # fmt: skip
    return dataclasses.replace(result, **changes)


def test_gpu_hours_times_the_price_is_the_sum() -> None:
    plan = plan_of("cost.gpu_usd_per_hour=3.6", instances=2, tensor_parallel=2)
    cost = cost_of(served(plan, rows=50), plan)
    assert cost.gpu_hours == pytest.approx(4 * 100 / 3600)
    assert cost.usd == pytest.approx(4 * 100 / 3600 * 3.6) == pytest.approx(0.4)
    assert cost.usd_per_million_output_tokens == pytest.approx(0.4 / (100 * 101) * 1e6)
    assert cost.usd_per_million_tokens == pytest.approx(0.4 / (100 * 102) * 1e6)
    assert cost.usd_per_1000_requests == pytest.approx(0.4 / 100 * 1000)
    assert cost.price_source == "cost.gpu_usd_per_hour"


def test_a_whole_run_costs_its_gpu_hours_times_the_list_price() -> None:
    found = kvsim.simulate(
        "vllm serve meta-llama/Llama-3.1-8B-Instruct", gpu="h100-sxm", instances=2, rate=8, requests=200,
        workload="in=500,out=100", searches_rate=False, finds_binding=False, detail=False,
    )  # fmt: skip
    for result in found.results:
        cost, window = result.cost, result.window_s
        assert cost is not None and cost.gpu_hours is not None and cost.usd is not None
        assert cost.gpu_hours == pytest.approx(found.report.cluster.gpus * (window.end - window.start) / 3600)
        assert cost.usd == pytest.approx(cost.gpu_hours * USD_PER_S["h100-sxm"] * 3600)
        tokens = (result.throughput.output_tokens_per_s or 0.0) * (window.end - window.start)
        assert cost.usd_per_million_output_tokens == pytest.approx(cost.usd / tokens * 1e6)
        good = (result.goodput.requests_per_s or 0.0) * (window.end - window.start)
        assert cost.usd_per_1000_good_requests == pytest.approx(cost.usd / good * 1000)


def test_gpu_hours_are_of_instances_that_were_there() -> None:
    """Of two instances of two GPUs one is not there from 20 s to 60 s of the window, and fails from 70 s to 80 s."""
    plan = plan_of("cost.gpu_usd_per_hour=3.6", *WATTS, instances=2, tensor_parallel=2)
    role = RoleFleet(
        "colocated",
        2,
        (0.0, 20.0, 60.0, 70.0, 80.0, 130.0),
        (2, 1, 2, 1, 2, 2),
        (2, 1, 2, 2, 2, 2),
        (4, 2, 4, 4, 4, 4),
    )
    use = FleetUse((), (role,), *[0] * 9, arrived=50)
    cost = cost_of(served(plan, rows=50, busy=0.0, fleet=use), plan)
    by_hand_s = 2 * (20 * 2 + 40 * 1 + 40 * 2)
    assert cost.gpu_hours == pytest.approx(by_hand_s / 3600)
    assert cost.usd == pytest.approx(by_hand_s / 3600 * 3.6)
    assert cost.energy is not None and cost.energy.kwh == pytest.approx(by_hand_s * 100 / 3.6e6), "100 W while idle"
    assert cost.energy.mean_gpu_power_w == pytest.approx(100)
    assert cost.gpus == 4
    always = dataclasses.replace(role, serving=(2,) * 6, paid=(2,) * 6, paid_gpus=(4,) * 6)
    whole = dataclasses.replace(use, roles=(always,))
    assert cost_of(served(plan, rows=50, fleet=whole), plan) == cost_of(served(plan, rows=50), plan)


@given(st.lists(st.tuples(st.floats(0.1, 50), st.integers(0, 3)), min_size=1, max_size=8), st.floats(1, 20))
def test_gpu_hours_times_the_price_are_the_sum_of_spans(spans: list[tuple[float, int]], price: float) -> None:
    plan = plan_of(f"cost.gpu_usd_per_hour={price}", instances=3)
    times_s = np.append(0.0, np.cumsum([length_s for length_s, _ in spans]))
    paid = tuple(count for _, count in spans)
    end_s = float(times_s[-1])
    role = RoleFleet("colocated", 3, tuple(times_s.tolist()), *((*paid, paid[-1]),) * 3)
    result = served(plan, fleet=FleetUse((), (role,), *[0] * 9, arrived=50), window_s=(0.0, end_s))
    cost = cost_of(result, plan)
    by_hand = sum(length_s * count for length_s, count in spans) / 3600
    assert cost.gpu_hours == pytest.approx(by_hand, abs=1e-12) and role.gpu_s == pytest.approx(by_hand * 3600)
    assert cost.usd == pytest.approx(by_hand * price, abs=1e-12)


def test_only_requests_within_the_slo_count_as_good() -> None:
    plan = plan_of("cost.gpu_usd_per_hour=36", "slo.tpot_ms=1500")
    result = served(plan, rows=4)
    result.table["output_tokens"][:3] = 51.0  # 2 s a token, where the fourth takes 1 s
    cost = cost_of(result, plan)
    assert cost.usd_per_1000_good_requests == pytest.approx(1000.0)
    assert cost.energy is not None and cost.energy.kwh is not None
    assert cost.energy.joules_per_good_request == pytest.approx(cost.energy.kwh * 3.6e6)
    missed = cost_of(result, plan_of("cost.gpu_usd_per_hour=36", "slo.tpot_ms=1"))
    assert missed.usd_per_1000_good_requests is None and missed.usd == cost.usd


def test_tiers_with_a_price_are_added() -> None:
    plan = plan_of("cost.gpu_usd_per_hour=1", "cost.dram_usd_per_gb_month=7.3")
    tiers = tuple(TierUse(name, 1, 1e12, 0.0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0) for name in ("dram", "ssd"))
    result = served(plan, cache=CacheUse(0, 0, 0, 1, 0, tiers=tiers))
    hours = 100 / 3600
    cost = cost_of(result, plan)
    assert cost.memory_usd == pytest.approx(1000 * 7.3 * hours / HOURS_PER_MONTH)
    assert cost.usd == pytest.approx(hours + 10 * hours)
    with_drives = cost_of(result, plan_of("cost.gpu_usd_per_hour=1", "cost.ssd_usd_per_gb_month=0.73"))
    assert with_drives.usd == pytest.approx(hours + hours)
    assert cost_of(result, plan_of()).memory_usd is None


def test_energy_of_a_constant_run_by_hand() -> None:
    """64 sequences decode all the time, on 52 tokens in the mean: what a step computes and reads is written out."""
    plan = plan_of(*WATTS, "steptime.compute_efficiency=0.5", "steptime.memory_efficiency=1",
                   "steptime.attention_compute_efficiency=1", "steptime.attention_memory_efficiency=1")  # fmt: skip
    (role,) = role_powers(served(plan), plan, GpuPower(100, 400, 700, ""))
    weights = LLAMA_8B_PARAMS - EMBEDDING
    computes_s = 2 * weights * 64 / (989e12 * 0.5)
    reads_s = (2 * weights + 64 * 52 * 131_072) / 3.35e12
    assert role.prompt_share == 0.0
    assert role.position == pytest.approx(computes_s / reads_s, rel=0.05)  # activations move some bytes, too
    assert role.step_w == pytest.approx(400 + 300 * role.position)
    cost = cost_of(served(plan), plan)
    assert cost.energy is not None
    assert cost.energy.kwh == pytest.approx(role.step_w * 100 / 3.6e6)
    assert cost.energy.joules_per_output_token == pytest.approx(role.step_w * 100 / (64 * 101))
    assert cost.power_source == "cost.power.idle_w, memory_bound_w, compute_bound_w"


def test_prompts_draw_what_computing_does() -> None:
    """Prompts whose products alone take half of the time, by hand; attention adds little to them."""
    plan = plan_of(*WATTS, "steptime.compute_efficiency=1", "steptime.attention_compute_efficiency=1")
    result = served(plan, rows=1, prompt=1024, output=1)
    of_layers = LLAMA_8B_PARAMS - 2 * EMBEDDING
    result.table["computed_tokens"][:] = 1024.0
    number = round(0.5 * 100 / (2 * of_layers * 1024 / 989e12))
    many = {name: np.repeat(values, number) for name, values in result.table.items()}
    (role,) = role_powers(dataclasses.replace(result, table=many), plan, GpuPower(100, 400, 700, ""))
    attention = 1 + 4 * 32 * 128 * 32 * 512 / (2 * of_layers)
    assert role.prompt_share == pytest.approx(0.5 * attention, rel=0.01) and role.position == 0.0
    assert role.step_w == pytest.approx(700 * role.prompt_share + 400 * (1 - role.prompt_share))


@given(busy=st.floats(0, 1), instances=st.integers(1, 4))
def test_two_instances_draw_twice_as_much_and_idle_time_draws_idle_power(busy: float, instances: int) -> None:
    one, many = plan_of(*WATTS), plan_of(*WATTS, instances=instances)
    single, several = (cost_of(served(plan, busy=busy), plan) for plan in (one, many))
    assert single.energy is not None and several.energy is not None and single.energy.kwh is not None
    assert several.energy.kwh == pytest.approx(instances * single.energy.kwh)
    assert several.energy.joules_per_output_token == pytest.approx(single.energy.joules_per_output_token)
    least, most = 100 * (1 - busy) + 400 * busy, 100 * (1 - busy) + 700 * busy
    assert least - 1e-9 <= (single.energy.mean_gpu_power_w or 0.0) <= most + 1e-9
    assert several.usd == pytest.approx(instances * (single.usd or 0.0))


def test_unused_gpus_cost_and_idle() -> None:
    plan = plan_of(*WATTS, "cost.gpu_usd_per_hour=1", instances=2)
    half = served(plan)
    half = dataclasses.replace(half, roles=(dataclasses.replace(half.roles[0], gpus=1),))
    cost = cost_of(half, plan)
    assert cost.gpu_hours == pytest.approx(200 / 3600) and cost.energy is not None
    (role,) = role_powers(half, plan, GpuPower(100, 400, 700, ""))
    assert cost.energy.mean_gpu_power_w == pytest.approx((role.window_w + 100) / 2)


def test_a_gpu_of_which_nothing_is_known_has_neither_and_it_is_said() -> None:
    plan = plan_of("hardware.gpu=rtx-4090", "engine.max_num_seqs=8", "model.max_model_len=4096")
    cost = cost_of(served(plan), plan)
    assert cost.usd is None and cost.usd_per_million_tokens is None and cost.energy is None
    assert cost.gpu_hours is not None
    assert "rtx-4090" in cost.price_source and "cost.gpu_usd_per_hour" in cost.price_source
    assert "rtx-4090" in cost.power_source and "cost.power" in cost.power_source


def test_nothing_served_divides_by_nothing() -> None:
    plan = plan_of()
    nothing = served(plan, rows=0, busy=0.0)
    cost = cost_of(nothing, plan)
    assert cost.usd_per_million_output_tokens is None and cost.energy is not None
    assert cost.energy.joules_per_output_token is None
    assert cost.energy.mean_gpu_power_w == pytest.approx(POWERS["h100-sxm"].idle_w)
    empty = cost_of(dataclasses.replace(nothing, window_s=(1.0, 1.0)), plan)
    assert empty.usd is None and empty.gpu_hours is None and empty.energy is not None and empty.energy.kwh is None


def test_what_is_not_counted_has_no_energy() -> None:
    plan = plan_of("engine.speculative.method=ngram")
    cost = cost_of(served(plan), plan)
    assert cost.energy is None and "drafting" in cost.power_source and cost.usd is not None


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("cost.gpu_usd_per_hour=-1",), "cost.gpu_usd_per_hour = -1"),
        (("cost.dram_usd_per_gb_month=.nan",), "cost.dram_usd_per_gb_month"),
        (("cost.power.idle_w=500",), "cost.power.idle_w = 500 is more than cost.power.memory_bound_w = 443"),
        (("cost.power.compute_bound_w=400",), "memory_bound_w = 443 is more than cost.power.compute_bound_w = 400"),
        (("hardware.gpu=l4", "cost.power.idle_w=10"), "memory_bound_w and cost.power.compute_bound_w too"),
        (("cost.gpu_usd=3",), "cost.gpu_usd"),
    ],
)
def test_bad_values_are_one_line(sets: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(sets=list(sets))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_figure_of_ones_own_takes_the_place_of_the_known_one() -> None:
    config = plan_of("cost.power.idle_w=0").config
    power = power_of(config, "h100-sxm")
    assert power is not None and (power.idle_w, power.memory_bound_w) == (0.0, 443.0)
    assert power.source.startswith("cost.power.idle_w; else ")


MEASURED = {
    "ML.ENERGY v3.0, Llama 3.3 70B on 4 GPUs, 8 at a time": (
        "vllm serve meta-llama/Llama-3.3-70B-Instruct -tp 4 --max-num-seqs 8", "in=250-750,out=1-819", 8, 3.8469),
    "ML.ENERGY v3.0, Llama 3.3 70B on 4 GPUs, 64 at a time": (
        "vllm serve meta-llama/Llama-3.3-70B-Instruct -tp 4 --max-num-seqs 64", "in=250-750,out=1-819", 64, 0.8223),
    "Serial Alice, Mistral 7B, 1 at a time": (
        "vllm serve mistralai/Mistral-7B-Instruct-v0.3", "in=128,out=128", 1, 732e-6 * 3600),
    "Serial Alice, Mistral 7B, 128 at a time": (
        "vllm serve mistralai/Mistral-7B-Instruct-v0.3", "in=128,out=128", 128, 13.8e-6 * 3600),
}  # fmt: skip
"""Joules a token of H100 SXM as published; docs/cost.md has the sources, what is assumed, and all others."""


@pytest.mark.parametrize("name", MEASURED)
def test_joules_a_token_as_published(name: str) -> None:
    """None of them is an anchor of the table of watts. Of one source and model both must hold within 15%."""
    line, workload, users, joules = MEASURED[name]
    found = kvsim.simulate(
        line, gpu="h100-sxm", workload=workload, concurrency=users, requests=max(40, 6 * users),
        searches_rate=False, finds_binding=False, detail=False,
    )  # fmt: skip
    cost: Cost | None = found.results[0].cost
    assert cost is not None and cost.energy is not None
    assert cost.energy.joules_per_output_token == pytest.approx(joules, rel=0.15)
