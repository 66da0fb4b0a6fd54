"""Replications until a question is answered: which arms run on, when they stop, and how often what is said is true."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from kvsim.study.intervals import Interval
from kvsim.study.replication import SIGN, Budget, Figures, Goal, Replicated, replicate

Measure = Callable[[int, Sequence[str]], tuple[dict[str, Figures], int]]
GOAL = Goal(("x",), precision=0.05, tie_share=0.01, confidence=0.95)


def one_by_one(measure: Measure) -> Callable[[Sequence[int], Sequence[str]], list[tuple[dict[str, Figures], int]]]:
    """What is asked for several replications at once, from what measures one."""
    return lambda replications, arms: [measure(replication, arms) for replication in replications]


def run(
    values: Mapping[str, Sequence[float]], budget: Budget, goal: Goal = GOAL, requests: int = 10
) -> tuple[Replicated[str], list[list[str]]]:
    """``values`` of each arm, one a replication, against ``base``; and who ran when."""
    ran: list[list[str]] = []

    def measure(replication: int, arms: Sequence[str]) -> tuple[dict[str, Figures], int]:
        ran.append(list(arms))
        return {arm: {"x": values[arm][replication]} for arm in arms}, requests * len(arms)

    return replicate(list(values), lambda *_: "base", one_by_one(measure), goal, budget), ran


def test_an_arm_stops_when_its_difference_is_known_and_the_base_runs_on_for_the_others() -> None:
    random = np.random.default_rng(1)
    base = 100 + random.normal(0, 5, 20)
    values = {"base": base, "far": base + 50, "tied": base + 0.01, "noisy": base + random.normal(10, 8, 20)}
    found, ran = run(values, Budget(3, 20, 10_000))
    assert ran[:3] == [["base", "far", "tied", "noisy"]] * 3 and ran[3:] == [["base", "noisy"]] * 17
    assert found.open == {"noisy"} and found.replications == 20
    verdicts = {arm: found.apart(arm, "base", "x").verdict for arm in values}
    assert verdicts == {"base": "same", "far": "higher", "tied": "tie", "noisy": "higher"}
    assert not found.apart("noisy", "base", "x").precise
    assert found.runs.fewest_replications == 3 and not found.runs.within_budget


def test_means_of_fewer_runs_are_moved_beside_those_of_more() -> None:
    random = np.random.default_rng(1)
    base = 100 + random.normal(0, 5, 20)
    values = {"base": base, "same": base, "far": base + 50, "noisy": base + random.normal(10, 8, 20)}
    found, _ = run(values, Budget(3, 20, 10_000))
    assert len(found.figures["far"]) == 3 < len(found.figures["base"])
    means = {arm: found.means(arm)["x"].mean for arm in values}
    assert means["base"] == means["same"] == pytest.approx(base.mean())
    assert means["far"] == pytest.approx(base.mean() + 50)
    assert found.means("far")["x"].half_width == pytest.approx(found.means("same")["x"].half_width)


def test_no_further_replication_begins_beyond_the_budget() -> None:
    random = np.random.default_rng(4)
    values = {"base": random.normal(10, 5, 30), "other": random.normal(10, 5, 30)}
    found, ran = run(values, Budget(2, 30, requests=119))
    assert len(ran) == 5 and found.requests == 100 and found.open == {"other"}
    assert len(run(values, Budget(3, 30, requests=1))[1]) == 3


def test_no_replication_begins_once_something_else_is_used_up() -> None:
    random = np.random.default_rng(4)
    values = {"base": random.normal(10, 5, 30), "other": random.normal(10, 5, 30)}
    asked: list[int] = []

    def is_spent() -> bool:
        asked.append(1)
        return len(asked) > 2

    found, ran = run(values, Budget(2, 30, 10_000, is_spent))
    assert len(ran) == 4 and found.open
    assert len(run(values, Budget(3, 30, 10_000, lambda: True))[1]) == 3  # the fewest, whatever they cost


def test_two_runs_far_apart_that_vary_are_not_called_a_tie() -> None:
    found, _ = run({"base": [69.0, 69.5], "over": [15_000.0, 26_000.0]}, Budget(2, 2, 1000))
    assert found.apart("over", "base", "x").verdict == "open" and found.open == {"over"}


def test_the_first_run_suffices_for_who_is_out() -> None:
    def measure(replication: int, arms: Sequence[str]) -> tuple[dict[str, Figures], int]:
        return {arm: {"x": {"a": 10.0, "b": 1.0, "c": 9.9}[arm] + 0.01 * replication} for arm in arms}, 1

    def best(arm: str, found: Mapping[str, Sequence[Figures]]) -> str:
        return "a"

    found = replicate(["a", "b", "c"], best, one_by_one(measure), GOAL, Budget(3, 5, 100), lambda arm, _: arm == "b")
    assert {arm: len(figures) for arm, figures in found.figures.items()} == {"a": 3, "b": 1, "c": 3}
    assert found.means("b")["x"] == Interval(1.0, math.inf)


@pytest.mark.parametrize(("apart", "precision"), [(0.0, 0.05), (0.0, SIGN), (0.02, SIGN), (0.05, 0.05), (0.3, 0.05)])
def test_looking_again_and_again_finds_no_more_than_intervals_allow(apart: float, precision: float) -> None:
    """Of 400 studies of noise around a difference, about 5% at most say the wrong side, or a tie where is none."""
    random = np.random.default_rng(3)
    goal = Goal(("x",), precision, tie_share=0.01, confidence=0.95)
    wrong = 0
    for _ in range(400):
        base = random.normal(1.0, 0.02, 12)
        found, _ = run({"base": base, "other": base + apart + random.normal(0, 0.05, 12)}, Budget(3, 12, 10_000), goal)
        verdict = found.apart("other", "base", "x").verdict
        wrong += verdict in ({"lower", "higher"} if apart == 0 else {"lower", "tie"})
    assert wrong / 400 < 0.075


def test_the_figure_compared_with_is_run_until_it_is_known_too() -> None:
    base = 100 + np.random.default_rng(6).normal(0, 10, 40)
    goal = Goal(("x",), SIGN, 0.01, 0.95, level=0.05)
    found, ran = run({"base": base, "far": base + 50}, Budget(3, 40, 10_000), goal)
    assert ran[-1] == ["base"] and 3 < found.replications < 40 and not found.open
    around = found.means("base")["x"]
    assert around.half_width <= 0.05 * around.mean


def test_whoever_is_compared_with_runs_as_often_along_a_chain() -> None:
    """Each tier is compared with those above it: the last question may be open when the ones before are answered."""
    random = np.random.default_rng(2)
    values = {"hbm": 100 + random.normal(0, 5, 20)}
    values["dram"] = values["hbm"] - 40
    values["ssd"] = values["dram"] - random.normal(3, 9, 20)
    above = {"hbm": "hbm", "dram": "hbm", "ssd": "dram"}

    def measure(replication: int, arms: Sequence[str]) -> tuple[dict[str, Figures], int]:
        return {arm: {"x": values[arm][replication]} for arm in arms}, len(arms)

    found = replicate(list(values), lambda arm, _: above[arm], one_by_one(measure), GOAL, Budget(3, 20, 1000))
    assert {len(runs) for runs in found.figures.values()} == {20} and found.open == {"ssd"}
    assert found.means("dram")["x"].mean == pytest.approx(found.means("hbm")["x"].mean - 40)


def test_replications_that_are_sure_are_asked_for_at_once() -> None:
    """They can run side by side: all of the fewest, the first alone where an arm may be out after it."""
    random = np.random.default_rng(1)
    values = {"base": random.normal(10, 5, 20), "other": random.normal(10, 5, 20)}
    asked: list[list[int]] = []

    def measure(replications: Sequence[int], arms: Sequence[str]) -> list[tuple[dict[str, Figures], int]]:
        asked.append(list(replications))
        return [({arm: {"x": values[arm][one]} for arm in arms}, 1) for one in replications]

    for is_out in (None, lambda arm, found: False):
        replicate(list(values), lambda *_: "base", measure, GOAL, Budget(4, 6, 1000), is_out)
    assert asked == [[0, 1, 2, 3], [4], [5], [0], [1, 2, 3], [4], [5]]
