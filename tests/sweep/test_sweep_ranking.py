"""Which point is best, and what is sure of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_sweep import plan_of, row_of

from kvsim.errors import ConfigError
from kvsim.sweep.plan import Plan
from kvsim.sweep.ranking import HIGHER, LOWER, By, Ranking, by_of, ranked
from kvsim.sweep.shown import error_lines, ranking_lines


def ranking_of(plan: Plan, figures: list[list[float | None]], **changes: Any) -> Ranking:
    rows = [
        row_of(plan.run(number), figures[number // plan.sweep.replications][number % plan.sweep.replications])
        | changes.get(f"run_{number}", {})
        for number in range(len(plan))
    ]
    return ranked(rows, plan.sweep, By("goodput_requests_per_s"), 0.95)


def plan_of_points(folder: Path, points: int, replications: int) -> Plan:
    return plan_of(folder, f"keys: {{rate: {list(range(1, points + 1))}}}\nreplications: {replications}\n")


def test_the_best_comes_first_and_ties_keep_their_order(tmp_path: Path) -> None:
    plan = plan_of_points(tmp_path, 4, 1)
    found = ranking_of(plan, [[1.0], [3.0], [3.0], [2.0]])
    assert [point.number for point in found.points] == [1, 2, 3, 0]
    assert found.candidates is None
    assert "One replication each" in " ".join(ranking_lines(found, plan.sweep))


def test_what_differs_by_the_same_in_every_replication_is_told_apart(tmp_path: Path) -> None:
    """Common noise cancels, pair by pair; noise of its own does not."""
    plan = plan_of_points(tmp_path, 3, 3)
    found = ranking_of(plan, [[10.0, 20.0, 30.0], [9.0, 19.0, 29.0], [19.0, 9.0, 29.0]])
    assert [point.number for point in found.points] == [0, 1, 2] and found.candidates == {0, 2}
    assert "* one of 2 of 3 is the best at 95%" in " ".join(ranking_lines(found, plan.sweep))
    assert ranking_of(plan, [[1.0] * 3, [2.0] * 3, [3.0] * 3]).candidates == {2}
    assert ranking_of(plan, [[1.0] * 3] * 3).candidates == {0, 1, 2}


def test_the_best_is_no_candidate_in_at_most_one_sweep_in_twenty(tmp_path: Path) -> None:
    """Whichever of ten points that are as good comes out first; and of points that differ, bad ones are left out."""
    plan = plan_of_points(tmp_path, 10, 5)
    drawn = np.random.default_rng(5).normal(10, 1, (200, 10, 5))
    found = [ranking_of(plan, sample.tolist()).candidates or frozenset() for sample in drawn]
    assert sum(0 not in candidates for candidates in found) <= 0.05 * 200
    apart = ranking_of(plan, (drawn[0] + 30 * np.arange(10)[:, None]).tolist())
    assert apart.candidates == {9}


def test_points_that_are_not_whole_are_left_out(tmp_path: Path) -> None:
    plan = plan_of_points(tmp_path, 4, 2)
    figures: list[list[float | None]] = [[1.0, 2.0], [9.0, 9.0], [None, 9.0], [3.0, 3.0]]
    found = ranking_of(plan, figures, run_3={"error": "it broke"})
    assert [point.number for point in found.points] == [3, 0] and found.left_out == 2
    assert "2 points without the figure, or with a failed or missing run, left out." in list(
        ranking_lines(found, plan.sweep)
    )
    rows = [row_of(plan.run(number)) for number in range(7)]
    assert ranked(rows, plan.sweep, By("goodput_requests_per_s"), 0.95).left_out == 1
    none = ranked([], plan.sweep, By("ttft_mean_ms"), 0.95)
    assert list(ranking_lines(none, plan.sweep)) == ["No point has all of its runs, so none is ranked."]


def test_points_of_which_nothing_ran_are_said_to_be_left_out(tmp_path: Path) -> None:
    """Of a shard, or of shards that lack one, the best is the best of what there is."""
    plan = plan_of_points(tmp_path, 4, 2)
    rows = [row_of(plan.run(number), figure) for number, figure in enumerate([1.0, 1.1, 2.0, 2.1])]
    found = ranked(rows, plan.sweep, By("goodput_requests_per_s"), 0.95, num_points=4)
    said = " ".join(ranking_lines(found, plan.sweep))
    assert found.left_out == 2 and "* is the best of those ranked at 95%" in said
    assert "2 points without the figure, or with a failed or missing run, left out." in said
    assert "of those ranked" not in " ".join(ranking_lines(ranking_of(plan, [[1.0, 1.1]] * 4), plan.sweep))


def test_a_system_that_no_run_has_is_said(tmp_path: Path) -> None:
    plan = plan_of_points(tmp_path, 2, 1)
    rows = [row_of(plan.run(number), 1.0) for number in range(2)]
    none = ranked(rows, plan.sweep, By("goodput_requests_per_s", "pdd"), 0.95)
    assert " ".join(ranking_lines(none, plan.sweep)) == (
        "No run has pdd.goodput_requests_per_s, so no point is ranked; that figure is of unified."
    )
    empty = ranked([row_of(plan.run(0), None)], plan.sweep, By("goodput_requests_per_s"), 0.95)
    assert "No run has a value of goodput_requests_per_s" in " ".join(ranking_lines(empty, plan.sweep))


def test_figures_are_those_of_a_row_and_the_last_systems_unless_named() -> None:
    row = {"run": 0, "unified.ttft_p99_ms": 1.0, "pd.ttft_p99_ms": 2.0, "pd.completed": 3}
    assert by_of("ttft_p99_ms", "--by").column(row) == "pd.ttft_p99_ms"
    assert by_of("unified.ttft_p99_ms", "--by").column(row) == "unified.ttft_p99_ms"
    assert by_of("eic on.ttft_p99_ms", "--by").column(row) is None
    assert not by_of("pd.ttft_p99_ms", "--by").is_higher_better and by_of("completed", "--by").is_higher_better
    with pytest.raises(ConfigError, match="--by: unknown figure 'ttft_p98_ms'; did you mean 'ttft_p9"):
        by_of("pd.ttft_p98_ms", "--by")


def test_lines_fit_a_terminal_and_name_both_ends(tmp_path: Path) -> None:
    plan = plan_of_points(tmp_path, 14, 2)
    figures: list[list[float | None]] = [[float(n), n + 0.5] for n in range(14)]
    found = ranking_of(plan, figures, run_26={"unified.overloaded": True, "unified.steady": False})
    lines = list(ranking_lines(found, plan.sweep))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "unified.goodput_requests_per_s, the higher the better: mean of 2 replications"
    assert lines[3] == "   1* 13.2 +- 3.18          rate=14 (overloaded)"
    assert [line.split()[0].rstrip("*") for line in lines[3:14]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "...",
        "10",
        "11",
        "12",
        "13",
        "14",
    ]
    assert "1 of 14 points shows no steady state: longer runs may differ." in lines


def test_errors_are_said_once_each(tmp_path: Path) -> None:
    plan = plan_of_points(tmp_path, 4, 1)
    rows = [row_of(plan.run(number), error=error) for number, error in enumerate(["b", "a", "b", None])]
    assert list(error_lines(rows)) == ["2 runs failed: b", "1 run failed: a"]


def test_every_figure_of_a_row_that_is_a_number_can_be_ranked_by() -> None:
    from kvsim.api import simulate
    from kvsim.simulation import summary_row

    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    alone = {"searches_rate": False, "finds_binding": False, "detail": False}
    found = simulate(line, gpu="h100", workload="in=20,out=2", rate=5, requests=20, **alone)
    assert found.report.cluster.binding is None
    row = summary_row(found.results[0])
    assert {name for name, value in row.items() if not isinstance(value, bool | str)} == {*LOWER, *HIGHER}
