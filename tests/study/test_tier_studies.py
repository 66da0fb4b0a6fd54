"""What studies of memory make of their runs: where a curve bends, and what single runs cannot tell."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from answers import RUNS, SIZE, memory_figures

from kvsim.capacity.sources import SessionsTraffic
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.failures import Failures
from kvsim.plan.mode import SINGLE
from kvsim.sim.executor import Serial
from kvsim.study.catalogue import run_studies, studies
from kvsim.study.context import StudyContext
from kvsim.study.questions.capacity import CapacityAnswer, SizeRow, _knee, _noise
from kvsim.study.questions.tiers import TiersAnswer, tiers_study


def rows(*points: tuple[float, float, float]) -> list[SizeRow]:
    """``points``: GB, LRU's hit rate, the oracle's."""
    return [
        SizeRow(
            share=1.0,
            capacity_gb_per_host=gb,
            policies={"lru": memory_figures(hit_rate=lru), "belady": memory_figures(hit_rate=best)},
        )
        for gb, lru, best in points
    ]


@pytest.mark.parametrize(
    ("points", "knee"),
    [
        (((1, 0.5, 0.5), (10, 0.6, 0.6)), 1.0),
        (((1, 0.1, 0.1), (5, 0.5, 0.5), (10, 0.6, 0.6)), 5.0),
        (((5, 0.3, 0.3), (10, 0.6, 0.6)), None),
        (((5, 0.1, 0.1), (10, 0.6, 0.6)), None),
        (((5, 0.0, 0.0),), None),
        ((), None),
    ],
    ids=["early", "late", "straight", "bent the other way", "flat", "none"],
)
def test_the_knee_lies_above_the_chord_from_nothing(points: tuple, knee: float | None) -> None:
    assert _knee(rows(*points), memory_figures(hit_rate=0.0), "lru") == knee


@pytest.mark.parametrize(
    ("points", "noise"),
    [
        (((1, 0.5, 0.5), (2, 0.6, 0.6)), 0.0),
        (((1, 0.5, 0.5), (2, 0.47, 0.6)), 3.0),
        (((1, 0.28, 0.5), (2, 0.6, 0.6)), 2.0),
        (((1, 0.54, 0.5), (2, 0.6, 0.6)), 4.0),
        ((), 0.0),
    ],
    ids=["none", "falls", "below no memory at all", "above the oracle", "no rows"],
)
def test_noise_is_what_cannot_be(points: tuple, noise: float) -> None:
    assert _noise(rows(*points), memory_figures(hit_rate=0.3)) == pytest.approx(noise)


def test_a_study_that_cannot_be_made_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = TiersAnswer(size=SIZE, runs=RUNS, requests=1, rows=())

    def fails(context: Any) -> CapacityAnswer:
        raise ConfigError("no such policy")

    for name, ask in (("capacity", fails), ("tiers", lambda context: answer)):
        monkeypatch.setitem(studies(), name, replace(studies()[name], ask=ask))
    failures, context = Failures(), SimpleNamespace(mode=SINGLE, comparisons=(), repeats=0)
    found = run_studies(context, ("capacity", "tiers"), failures)  # type: ignore[arg-type]
    assert found == ({"tiers": answer}, False)
    assert [failure.sentence() for failure in failures.found] == ["study capacity failed: no such policy"]


@pytest.mark.parametrize(("rate_per_s", "share"), [(1.0, 0.0), (60.0, 1.0)])
def test_memory_with_which_the_rate_of_the_run_is_too_much_is_known(rate_per_s: float, share: float) -> None:
    sets = ["studies.max_requests=300", "studies.replications=2", "studies.most_replications=2", "cache.tiers=[dram]"]
    config = load_config(preset="smoke", sets=sets).config
    plan, traffic = SINGLE.plan(config), SessionsTraffic(config, SINGLE)
    served = traffic.at_rate(rate_per_s, 300)
    found = tiers_study(StudyContext(SINGLE, plan, served, traffic, None, 1, Serial()))  # type: ignore[arg-type]
    assert [row.means.growing_share for row in found.rows] == [share, share]
