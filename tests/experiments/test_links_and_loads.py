"""Interconnect, goodput, routing and sizes of tiers, each against a calculation by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvsim.config.schema import Prices
from kvsim.experiments.bench import Bench
from kvsim.experiments.catalogue import goodput
from kvsim.experiments.catalogue.interconnect import hand_transfer_s, with_nics
from kvsim.experiments.catalogue.routing import ROUTERS
from kvsim.experiments.catalogue.tier_sizing import HOST, SHARED, Memory, memories, with_memory
from kvsim.experiments.finding import Finding
from kvsim.sim.run import Case, run
from kvsim.study.context import changed_plan
from kvsim.workload.synthetic.fixed import fixed

TWO = ("studies.replications=2", "studies.most_replications=2")


def test_one_request_waits_for_its_bytes_over_the_bandwidth(bench_of: Callable[..., Bench]) -> None:
    plan = bench_of("interconnect", "cluster.network.gpus_per_host=4").plan
    workload, found = fixed(1, 1.0, 2_000, 5, "constant", seed=1), {}
    for gbit in (25.0, 400.0):
        table = run(Case("pd", "pd", with_nics(plan, gbit), workload, 7)).system.table
        found[gbit] = float(table["first_token_s"][0] - table["arrival_s"][0])
        sent = float(table["transferred_bytes"][0])
        assert float(table["transfer_s"][0]) == pytest.approx(hand_transfer_s(with_nics(plan, gbit), sent), rel=0.01)
    difference_s = sent / 1e9 / 4 / 0.76 * (1 / 3.125 - 1 / 50)
    assert found[25.0] - found[400.0] == pytest.approx(difference_s, rel=1e-3)


def test_all_of_little_load_is_good_and_little_of_too_much(
    found_by: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goodput, "LOADS", (0.2, 1.5))
    found = found_by("goodput", *TWO, "studies.max_requests=200")
    low, high = found.answer.rows
    for system in (low.unified, low.pd):
        assert system.good_share.mean == 1
        assert system.goodput_requests_per_s.mean == pytest.approx(low.requests_per_s, rel=0.02)
    assert high.requests_per_s == pytest.approx(7.5 * low.requests_per_s)
    assert high.pd.good_share.mean < 0.9


def test_one_request_is_served_alike_behind_every_router(bench_of: Callable[..., Bench]) -> None:
    plan, workload = bench_of("routing").plan, fixed(1, 1.0, 2_000, 5, "constant", seed=1)
    times = set()
    for name, router in ROUTERS.items():
        own = changed_plan(plan, {f"routing.{key}": value for key, value in router.values.items()}, name)
        times.add(round(float(run(Case(name, "unified", own, workload, 7)).system.table["first_token_s"][0]), 9))
    assert len(times) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_routers_that_know_caches_hit_more(
    found_by: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    names = ("round robin", "prefix affinity", "dynamo", "llm-d", "sglang")
    chosen = {name: ROUTERS[name] for name in names}
    monkeypatch.setattr("kvsim.experiments.catalogue.routing.ROUTERS", chosen)
    found = found_by("routing", *TWO, f"seed={seed}", "studies.max_requests=300", "load.pilot_requests=100")
    hits = {row.router: row.figures.prefix_hit_rate.mean for row in found.answer.rows}
    assert all(hits[name] > hits["round robin"] for name in names[1:])
    assert found.answer.best in ("prefix affinity", "llm-d", "dynamo")


def test_memory_costs_what_its_gigabytes_do() -> None:
    price = Prices(dram=5, ssd=0.15, file_system=0.4)
    assert Memory().cost(price) == 0 and Memory().label == "nothing"
    assert Memory(50, HOST, 200).cost(price) == 50 * 5 + 200 * 0.15
    assert Memory(50, SHARED, 200).cost(price) == 50 * 5 + 200 * 0.4
    assert Memory(50, HOST, 200).less == Memory(50) and Memory(50).less == Memory()


def test_every_memory_has_its_tiers(bench_of: Callable[..., Bench]) -> None:
    plan = bench_of("tier_sizing").plan
    tiers = {memory: with_memory(plan, memory).tiers for memory in memories()}
    assert tiers[Memory()] == () and tiers[Memory(200.0)] == ("dram",)
    shared = with_memory(plan, Memory(50.0, SHARED, 200.0))
    assert shared.tiers == ("dram", "ssd") and shared.config.cluster.ssd_scope == "cluster"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_pool_is_hit_and_saves_time(found_by: Callable[..., Finding], seed: int) -> None:
    sets = ("studies.eic_gb_per_rack=[0,1000]", "studies.max_requests=150", "cluster.tiers=[eic]")
    found = found_by("eic_sizing", *TWO, *sets, f"seed={seed}")
    off, pool = found.answer.rows
    assert pool.means.hit_rate > off.means.hit_rate and pool.means.ttft_mean_ms < off.means.ttft_mean_ms
