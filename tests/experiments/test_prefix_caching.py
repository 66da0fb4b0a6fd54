"""Prefix caching, against prefill times and P/(P+S)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvsim.experiments.bench import Bench
from kvsim.experiments.catalogue.prefix_caching import (
    MIXED_PREFIX,
    OFF,
    ON,
    OWN_TOKENS,
    TTFT,
    figures,
    hand_saved_share,
    requests,
    together,
)
from kvsim.experiments.finding import Finding
from kvsim.sim.run import Case, run
from kvsim.study.replication import Goal, Replicated
from kvsim.workload.synthetic.bench import bench as equal_requests

COLUMNS = "mode,prefix_regime,concurrency,mean_ttft_s,p95_ttft_s,mean_e2e_s,p95_e2e_s,req_s,tok_s,notes"


def test_one_user_saves_what_computing_the_prefix_takes(bench_of: Callable[..., Bench]) -> None:
    bench = bench_of("prefix_caching")
    workload = equal_requests(3, float("inf"), 512, 8, 1, shared_prefix_tokens=2048, max_concurrency=1)
    ttft_s = {}
    for name, caches in ((ON, True), (OFF, False)):
        plan = bench.plan_with({"engine.enable_prefix_caching": caches}, name)
        found = run(Case(name, "unified", plan, workload, 1, warmup_requests=1)).system
        ttft_s[name] = figures(found)[TTFT] / 1e3
        assert figures(found)["hit_rate"] == (pytest.approx(2048 / 2560) if caches else 0)
    step = bench.plan.step_time
    by_hand_s = step.prefill_alone_s(2048 + 512, 0) - step.prefill_alone_s(512, 2048)
    assert by_hand_s > 0
    assert ttft_s[OFF] - ttft_s[ON] == pytest.approx(by_hand_s, rel=1e-3)


def test_saved_share_by_hand_is_of_whole_blocks() -> None:
    assert hand_saved_share(2048, 16) == 2048 / (2048 + OWN_TOKENS)
    assert hand_saved_share(100, 16) == 96 / (100 + OWN_TOKENS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_mixed_traffic_is_the_mixture_for_one_user(bench_of: Callable[..., Bench], seed: int) -> None:
    plan = bench_of("prefix_caching").plan
    found = {}
    for eligible in (0.0, 0.5, 1.0):
        workload = requests(40, 1, MIXED_PREFIX, eligible, seed)
        found[eligible] = figures(run(Case("x", "unified", plan, workload, 1, warmup_requests=8)).system)
    share = found[0.5]["prefix_hit_rate"]
    assert found[0.0]["prefix_hit_rate"] == 0 and found[1.0]["prefix_hit_rate"] == 1 and 0.2 < share < 0.8
    by_hand = share * found[1.0][TTFT] + (1 - share) * found[0.0][TTFT]
    assert found[0.5][TTFT] == pytest.approx(by_hand, rel=0.02)
    assert found[1.0][TTFT] < found[0.5][TTFT] < found[0.0][TTFT]


def test_the_table_is_the_shared_one(found_by: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    module = "kvsim.experiments.catalogue.prefix_caching"
    monkeypatch.setattr(f"{module}.PREFIXES", (0, 128))
    monkeypatch.setattr(f"{module}.USERS", (1, 8))
    found = found_by("prefix_caching", "studies.replications=2", "studies.most_replications=2")
    lines = found.as_csv().splitlines()
    assert lines[0] == COLUMNS and len(lines) == 1 + 2 * 4 + 2 * 5
    without, shared = found.answer.rows[0], found.answer.rows[2]
    assert without.ttft_difference_ms.verdict == "same" and shared.ttft_difference_ms.verdict == "lower"
    assert "without shared tokens nothing changes" in found.sentence


def test_the_mixture_is_held_against_the_runs_that_it_is_of() -> None:
    """Arms that ran unequally often: what is measured less what is reckoned is what stands beside them."""
    goal = Goal(metrics=(TTFT,), precision=0.05, tie_share=0.01, confidence=0.95)

    def runs(*values: float) -> list[dict[str, float]]:
        return [{TTFT: value, "hit_rate": 0.5} for value in values]

    found = Replicated(
        {0.0: runs(4, 6, 5), 0.5: runs(3, 4, 99), 1.0: runs(1, 2)},
        dict.fromkeys((0.0, 0.5, 1.0), 0.0),
        frozenset(),
        0,
        goal,
    )
    cut = together(found, (0.5, 0.0, 1.0))
    assert {arm: len(each) for arm, each in cut.figures.items()} == {0.0: 2, 0.5: 2, 1.0: 2}
    assert cut.means(0.5)[TTFT].mean == 3.5 and cut.means(0.0)[TTFT].mean == 5


def test_columns_of_mixed_traffic_agree(found_by: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    module = "kvsim.experiments.catalogue.prefix_caching"
    for name, value in (("PREFIXES", (0,)), ("USERS", (1,))):
        monkeypatch.setattr(f"{module}.{name}", value)
    found = found_by("prefix_caching", "studies.replications=2", "studies.most_replications=4")
    assert found.answer.runs.replications > found.answer.runs.fewest_replications
    for row in found.answer.mixed:
        assert row.ttft_mean_ms.mean - row.hand_ttft_ms.mean == pytest.approx(row.beyond_hand_ms.mean, abs=1e-9)
        assert row.on.mean_ttft_s == pytest.approx(row.ttft_mean_ms.mean / 1e3, rel=1e-12)
