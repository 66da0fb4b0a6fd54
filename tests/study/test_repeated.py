"""The comparison of a run, repeated: what is told as certain, and what is not."""

from __future__ import annotations

import math
from dataclasses import replace

from answers import RUNS, SIZE
from experiments import run_pd

from kvsim.config import load_config
from kvsim.study.intervals import Interval
from kvsim.study.questions.repeated import METRICS, RepeatedAnswer, RepeatedRow, repeated_sentence
from kvsim.study.replication import Apart, Goal

GOAL = Goal(("good_share",), 0.05, 0.01, 0.95)
BASE = {"good_share": 0.9, "ttft_mean_ms": 100.0, "ttft_p99_ms": 400.0, "tpot_p99_ms": 20.0}


def row(name: str, **apart: tuple[float, float]) -> RepeatedRow:
    """Differences given as mean and half width; nothing differs in the others."""
    found = {}
    for metric in METRICS:
        around = Interval(*apart.get(metric, (0.0, 0.0)))
        verdict = around.verdict(GOAL.margin(metric, [BASE[metric]]))
        tie = verdict in ("same", "tie")
        found[metric] = Apart(around, verdict, tie=tie, precise=tie or around.is_within(GOAL.precision))
    means = {metric: Interval(BASE[metric] + found[metric].mean, 1.0) for metric in METRICS}
    return RepeatedRow(name=name, runs=5, means=means, differences=found)


def told(*rows: RepeatedRow, trace: int | None = None) -> str:
    size = replace(SIZE, trace_requests=trace)
    return repeated_sentence(RepeatedAnswer(size=size, runs=RUNS, requests=100, rows=(row("unified"), *rows)))


def test_a_winner_is_named_where_it_is_certain_and_not_where_it_is_not() -> None:
    said = told(row("pd", ttft_mean_ms=(50.0, 10.0), ttft_p99_ms=(30.0, 60.0), tpot_p99_ms=(-4.0, 0.1)))
    assert said.endswith(
        "certain against unified: PD has requests within the SLO a tie, mean TTFT +50.0 ± 10.0 ms, p99 TPOT -4.00 ms; "
        "not told apart in p99 TTFT"
    )


def test_a_tie_is_a_tie_and_a_trace_is_resampled() -> None:
    said = told(row("arc"), row("belady", good_share=(0.1, 0.001)), trace=1000)
    assert ", each with another part of the trace, " in said
    assert ": arc ties in all. belady has requests within the SLO +10.0 points, " in said


def test_one_variant_alone_has_its_interval() -> None:
    assert told().endswith("intervals: 100 ± 1.00 ms in mean TTFT")


def test_runs_are_repeated_until_the_order_is_certain() -> None:
    sets = ("studies.replications=2", "pd_experiments.num_requests=120", "engine.tune_colocated_budget=false")
    found = run_pd(load_config(preset="smoke", sets=sets).config, repeats=6)
    assert found.studies is not None
    answer = found.studies["repeated"]
    assert isinstance(answer, RepeatedAnswer) and [each.name for each in answer.rows] == ["unified", "pd"]
    assert 2 <= answer.runs.replications <= 6 and answer.requests == 120
    # A prefill instance for three decode instances queues prompts that four unified instances do not.
    assert answer.rows[1].differences["ttft_mean_ms"].verdict == "higher"
    assert math.isclose(answer.rows[1].means["good_share"].mean, 1.0)
