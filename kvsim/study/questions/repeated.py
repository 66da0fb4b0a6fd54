"""Whether what the run compares comes out so again: its variants on other requests, until the order is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.record.labels import number, percent, system_label
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.sim.run import Case
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import latencies
from kvsim.study.pictures import BLUE, bars_of, drawn, plain_numbers
from kvsim.study.replication import SIGN, Apart, Figures
from kvsim.study.words import change, plus_minus, runs_of, said_of, sample_of, table_of
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOOD, MEAN = "good_share", "ttft_mean_ms"
METRICS = {GOOD: "requests within the SLO", MEAN: "mean TTFT", "ttft_p99_ms": "p99 TTFT", "tpot_p99_ms": "p99 TPOT"}
"""What a comparison goes by, and what it is called."""


@dataclass(frozen=True, kw_only=True)
class RepeatedRow:
    """A variant of the run, beside its first one."""

    name: str
    runs: int
    means: Mapping[str, Interval]
    differences: Mapping[str, Apart]
    """By metric, the first variant's taken from this one's."""


@dataclass(frozen=True, kw_only=True)
class RepeatedAnswer(StudyAnswer):
    """Every variant, the first one first."""

    requests: int
    """The mean of a run."""
    rows: tuple[RepeatedRow, ...]


def repeated_study(context: StudyContext) -> RepeatedAnswer:
    """The report's ``studies.repeated``: the run's own variants, at its own size and rate, on other requests.

    No more than ``context.repeats`` runs of each, and fewer where the sign of each difference in goodput and mean TTFT
    is certain before.
    """
    variants = {variant.name: variant for variant in context.variants}
    first, rate_per_s, num_requests = context.variants[0].name, context.requests_per_s, len(context.served)
    most = context.repeats

    def case_of(name: str, workload: Workload, seed: int) -> Case:
        variant = variants[name]
        return context.case(name, variant.system, variant.plan, workload, seed)

    found = context.replicate(
        list(variants),
        lambda *_: first,
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        case_of,
        lambda _, __, result: _figures(context, result),
        context.goal(GOOD, MEAN, precision=SIGN),
        budget=context.repeated_budget(most, most * len(variants) * num_requests),
    )
    return RepeatedAnswer(
        size=context.size(context.plan),
        runs=found.runs,
        requests=found.requests_a_run,
        rows=tuple(
            RepeatedRow(
                name=name,
                runs=len(found.figures[name]),
                means=found.means(name, METRICS),
                differences={metric: found.apart(name, first, metric) for metric in METRICS},
            )
            for name in variants
        ),
    )


def _figures(context: StudyContext, result: SystemResult) -> Figures:
    slo = context.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    return {GOOD: float((in_ttft & in_tpot).mean()), **latencies(result)}


def repeated_sentence(study: RepeatedAnswer) -> str:
    """What is certain of every variant against the first, and what is not."""
    first, *others = study.rows
    sure = f"{study.runs.confidence:.0%}"
    part = ", each with another part of the trace" if study.size.trace_requests else ""
    often = f"{runs_of(study.runs)} on other requests{part}"
    if not others:
        return f"{often}, {sure} intervals: {plus_minus(first.means[MEAN])} ms in mean TTFT"
    said = []
    for row in others:
        words = {metric: _words(metric, row.differences[metric]) for metric in METRICS}
        certain = [f"{METRICS[metric]} {text}" for metric, text in words.items() if text]
        unclear = [METRICS[metric] for metric, text in words.items() if not text]
        open_words = f"not told apart in {', '.join(unclear)}" if unclear else ""
        told = "; ".join(filter(None, [", ".join(certain), open_words]))
        all_tie = all(row.differences[metric].tie for metric in METRICS)
        said.append(f"{system_label(row.name)} {'ties in all' if all_tie else f'has {told}'}")
    return f"{often}, {sure} certain against {system_label(first.name)}: {'. '.join(said)}"


def _words(metric: str, apart: Apart) -> str:
    """The difference, where something is certain of it."""
    if apart.verdict == "open":
        return ""
    return said_of(apart.scaled(100), " points") if metric == GOOD else said_of(apart)


def _table(study: RepeatedAnswer) -> Table:
    title = f"The comparison again, on other requests, {sample_of(study, study.requests)}"
    table = table_of(title, ("ms", "within SLO", "points", "TTFT", "change", "p99", "change"))
    for row in study.rows:
        is_first, apart = row is study.rows[0], row.differences
        table.add_row(
            system_label(row.name),
            percent(row.means[GOOD].mean),
            "" if is_first else change(apart[GOOD].scaled(100)),
            number(row.means[MEAN].mean),
            "" if is_first else change(apart[MEAN]),
            number(row.means["ttft_p99_ms"].mean),
            "" if is_first else change(apart["ttft_p99_ms"]),
        )
    return table


def _picture(study: RepeatedAnswer) -> Figure:
    first = system_label(study.rows[0].name)
    figure, (axis,) = drawn(f"Mean TTFT against {first}, on other requests", study, requests=study.requests)
    rows = study.rows[:0:-1]
    found, errors = bars_of([row.differences[MEAN].interval for row in rows])
    axis.barh([system_label(row.name) for row in rows], found, xerr=errors, capsize=3, color=BLUE)
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_xlabel(f"difference to {first} (ms)")
    plain_numbers(axis.xaxis)
    return figure


STUDY = Study(
    name="repeated",
    places={"pd": 5, "single": 5, "cluster": 5},
    systems=frozenset(),
    ask=repeated_study,
    sentence=repeated_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows[1:],
    asked_by=lambda context: context.repeats > 0,
)
