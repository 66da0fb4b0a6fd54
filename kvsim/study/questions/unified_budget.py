"""How large the unified baseline's steps should be: token budgets side by side at the run's rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.record.labels import number, percent
from kvsim.record.plain import OMITTED, spliced
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.study.answer import DrivenAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import LOAD, latencies, own_load
from kvsim.study.pictures import BLUE, ORANGE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart
from kvsim.study.words import at_rate, budget_spent, change, overloaded_there, table_of
from kvsim.units import MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


@dataclass(frozen=True, kw_only=True)
class BudgetFigures:
    """What is measured of unified with one budget."""

    ttft_mean_ms: Interval
    ttft_p99_ms: Interval
    tpot_mean_ms: Interval
    tpot_p99_ms: Interval
    good_share: Interval
    """Share of requests within the SLO."""
    load: Interval | None = field(default=None, metadata=OMITTED)
    """Only where the budget is the one that the run used."""


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """A budget, beside the one that the run used."""

    max_num_batched_tokens: int
    used: bool
    figures: BudgetFigures = field(metadata=spliced())
    good_share_difference: Apart
    runs: int
    tie: bool


@dataclass(frozen=True, kw_only=True)
class BudgetAnswer(DrivenAnswer):
    """Every budget, the smallest first."""

    rows: tuple[BudgetRow, ...]


def unified_budget_study(context: StudyContext) -> BudgetAnswer:
    """The report's ``studies.unified_budget``: latencies and goodput of each budget, paired with the run's own.

    The budgets are ``engine.colocated_budgets`` and the one that the run used. ``loads``: what share of its maximum
    rate that one was offered in these runs.
    """
    plan = context.sample
    used = plan.colocated_settings.max_num_batched_tokens
    plans = {tokens: plan.with_colocated_budget(tokens) for tokens in _budgets(context, used)}
    rate_per_s = context.sample_requests_per_s
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    found = context.replicate(
        list(plans),
        lambda *_: used,
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda tokens, workload, seed: context.case(f"budget {tokens:,}", "unified", plans[tokens], workload, seed),
        lambda tokens, workload, result: {
            **_figures(context, result),
            **(own_load(plans[used], workload, result) if tokens == used else {}),
        },
        context.goal("good_share"),
    )
    rows = []
    for tokens in plans:
        apart = found.apart(tokens, used, "good_share")
        row = BudgetRow(
            max_num_batched_tokens=tokens,
            used=tokens == used,
            figures=BudgetFigures(**found.means(tokens)),
            good_share_difference=apart,
            runs=len(found.figures[tokens]),
            tie=tokens != used and apart.tie,
        )
        rows.append(row)
    return BudgetAnswer(
        size=context.size(plan),
        runs=found.runs,
        requests=found.requests_a_run,
        requests_per_s=rate_per_s,
        loads={"unified": found.means(used, (LOAD,))[LOAD].mean},
        rows=tuple(rows),
    )


def _budgets(context: StudyContext, used: int) -> list[int]:
    """Without chunks only those that hold a whole prompt."""
    settings = context.plan.colocated_settings
    least = 1 if settings.enable_chunked_prefill else settings.max_model_len
    return sorted({*(tokens for tokens in context.plan.config.engine.colocated_budgets if tokens >= least), used})


def _figures(context: StudyContext, result: SystemResult) -> dict[str, float]:
    slo = context.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    good = in_ttft & in_tpot
    return {**latencies(result), "good_share": float(good.mean())}


def unified_budget_sentence(study: BudgetAnswer) -> str:
    """Which token budgets keep more or less within the SLO than the one that unified ran with."""
    used = next(row for row in study.rows if row.used)
    others = [row for row in study.rows if not row.used]
    said = []
    for row in others:
        points = row.good_share_difference.scaled(100)
        if points.verdict == "open":
            said.append(f"{row.max_num_batched_tokens:,} is not told apart")
        elif not row.tie:
            width = "" if points.precise else f" ± {number(points.half_width)}"
            side = "more" if points.mean > 0 else "less"
            said.append(f"{row.max_num_batched_tokens:,} has {number(abs(points.mean))}{width} points {side}")
    if others and len(said) < len(others):
        said.append("the others tie in that")
    share = percent(used.figures.good_share.mean)
    head = f"unified with {used.max_num_batched_tokens:,} tokens a step: {share} within the SLO"
    return "; ".join([head, *said]) + overloaded_there(study) + budget_spent(study.runs)


def _table(study: BudgetAnswer) -> Table:
    columns = ("tokens a step; ms", "TTFT mean", "p99", "TPOT mean", "p99", "within SLO", "points")
    table = table_of(f"Unified's token budget {at_rate(study)}", columns)
    for row in study.rows:
        table.add_row(
            f"{row.max_num_batched_tokens:,}",
            number(row.figures.ttft_mean_ms.mean),
            number(row.figures.ttft_p99_ms.mean),
            number(row.figures.tpot_mean_ms.mean),
            number(row.figures.tpot_p99_ms.mean),
            percent(row.figures.good_share.mean),
            "used" if row.used else change(row.good_share_difference.scaled(100)),
        )
    return table


def _picture(study: BudgetAnswer) -> Figure:
    figure, axes = drawn("Unified by its token budget", study, 2, requests=study.requests)
    budgets = [row.max_num_batched_tokens for row in study.rows]
    used = next(row.max_num_batched_tokens for row in study.rows if row.used)
    found = [row.figures for row in study.rows]
    panels = (
        ("TTFT (ms)", [figures.ttft_mean_ms for figures in found], [figures.ttft_p99_ms for figures in found]),
        ("TPOT (ms)", [figures.tpot_mean_ms for figures in found], [figures.tpot_p99_ms for figures in found]),
    )
    for axis, (label, mean, p99) in zip(axes, panels, strict=True):
        for which, around, colour, marker in (("mean", mean, BLUE, "o"), ("p99", p99, ORANGE, "s")):
            means, errors = bars_of(around)
            at = range(len(budgets))
            axis.errorbar(at, means, yerr=errors, fmt=f"{marker}-", color=colour, capsize=3, label=which)
        axis.axvline(budgets.index(used), color="0.3", linewidth=0.8, linestyle=":", label="used")
        named_places(axis.xaxis, [f"{tokens:,}" for tokens in budgets])
        axis.set_xlabel("tokens a step")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        plain_numbers(axis.yaxis)
    legend_below(figure, axes[0])
    return figure


STUDY = Study(
    name="unified_budget",
    places={"pd": 2},
    systems=frozenset({"unified"}),
    ask=unified_budget_study,
    sentence=unified_budget_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
