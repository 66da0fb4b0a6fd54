"""How much is served within the SLO as load grows: unified serving and PD on the same GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.plan.mode import PD
from kvsim.record.labels import number, percent
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.sim.run import SYSTEMS
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import latencies
from kvsim.study.pictures import GREY, PALETTE, bars_of, drawn, legend_below, plain_numbers
from kvsim.study.replication import Apart, Figures, Replicated
from kvsim.study.words import LABELLED, budget_spent, change, plus_minus, sample_of, table_of
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOADS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3)
"""Shares of PD's maximum rate."""
FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""
GOOD, RATE = "good_share", "goodput_requests_per_s"


@dataclass(frozen=True, kw_only=True)
class SystemGoodput:
    """One system at one rate."""

    good_share: Interval
    goodput_requests_per_s: Interval
    """Requests within the SLO a second of arrivals."""
    ttft_mean_ms: Interval
    ttft_p99_ms: Interval
    tpot_mean_ms: Interval
    tpot_p99_ms: Interval


@dataclass(frozen=True, kw_only=True)
class GoodputRow:
    """One rate, offered to both."""

    load: float
    """Share of PD's maximum rate."""
    requests_per_s: float
    unified: SystemGoodput
    pd: SystemGoodput
    difference_requests_per_s: Apart
    """PD's goodput less unified's."""


@dataclass(frozen=True, kw_only=True)
class GoodputAnswer(StudyAnswer):
    """Every rate, the lowest first."""

    slo_ttft_ms: float
    slo_tpot_ms: float
    slo_share: float
    unified_token_budget: int
    rows: tuple[GoodputRow, ...]


def goodput(bench: Bench) -> GoodputAnswer:
    """Both systems serve equal requests at every rate."""
    context = bench.loaded_context("pd", at_load=True)
    full_per_s = context.sample_requests_per_s / bench.config.load.rho
    found = {load: _at(context, load * full_per_s) for load in LOADS}
    slo = bench.config.slo
    return GoodputAnswer(
        size=context.size(context.sample),
        runs=context.runs_of([one.runs for one in found.values()]),
        slo_ttft_ms=slo.ttft_ms,
        slo_tpot_ms=slo.tpot_ms,
        slo_share=slo.share,
        unified_token_budget=context.sample.colocated_settings.max_num_batched_tokens,
        rows=tuple(
            GoodputRow(
                load=load,
                requests_per_s=load * full_per_s,
                unified=SystemGoodput(**one.means("unified")),
                pd=SystemGoodput(**one.means("pd")),
                difference_requests_per_s=one.apart("pd", "unified", RATE),
            )
            for load, one in found.items()
        ),
    )


def _at(context: StudyContext, rate_per_s: float) -> Replicated[str]:
    plan = context.sample
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    return context.replicate(
        SYSTEMS,
        lambda *_: "unified",
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda name, workload, seed: context.case(f"{name}, {rate_per_s:.3g}/s", name, plan, workload, seed),
        lambda _, workload, result: _figures(context, workload, result),
        context.goal(RATE),
        1 / len(LOADS),
    )


def _figures(context: StudyContext, workload: Workload, result: SystemResult) -> Figures:
    slo = context.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    good = float((in_ttft & in_tpot).mean())
    return {GOOD: good, RATE: good * workload.mean_rate_per_s, **latencies(result)}


def goodput_sentence(study: GoodputAnswer) -> str:
    """Where each system's goodput is highest, up to which rate it keeps the SLO, and who has more where."""
    slo = f"TTFT <= {study.slo_ttft_ms:,.10g} ms and mean TPOT <= {study.slo_tpot_ms:g} ms"
    parts = [_of_system(study, name, label) for name, label in LABELLED]
    ahead = {"higher": [], "lower": []}  # type: dict[str, list[str]]
    for row in study.rows:
        verdict = row.difference_requests_per_s.verdict
        if verdict in ahead:
            ahead[verdict].append(f"{row.load:g}")
    for verdict, words in (("higher", "PD has surely more"), ("lower", "unified has surely more")):
        if ahead[verdict]:
            parts.append(f"{words} at loads of {', '.join(ahead[verdict])}")
    if not any(ahead.values()):
        parts.append("at no load are the two told apart by more than a tie")
    return f"within {slo}, loads as shares of PD's maximum rate: {'; '.join(parts)}{budget_spent(study.runs)}"


def _of_system(study: GoodputAnswer, name: str, label: str) -> str:
    rows = [(row.load, getattr(row, name)) for row in study.rows]
    load, most = max(rows, key=lambda row: row[1].goodput_requests_per_s.mean)
    kept = [load for load, found in rows if found.good_share.mean >= study.slo_share]
    keeps = f"keeps {percent(study.slo_share)} good up to {max(kept):g}" if kept else "keeps the share at no load tried"
    if name == "unified":
        label = f"unified, with {study.unified_token_budget:,} tokens a step,"
    most_words = "serves most at" if load < rows[-1][0] else "serves most at the highest load tried,"
    return f"{label} {most_words} {load:g} ({plus_minus(most.goodput_requests_per_s)} requests/s) and {keeps}"


def _tables(study: GoodputAnswer) -> tuple[Table, ...]:
    title = f"Requests/s within the SLO, and their share of those offered, {sample_of(study)}"
    table = table_of(title, ("load", "offered", "unified", "good", "PD", "good", "PD - unified"), names=False)
    for row in study.rows:
        table.add_row(
            f"{row.load:g}",
            number(row.requests_per_s),
            number(row.unified.goodput_requests_per_s.mean),
            percent(row.unified.good_share.mean),
            number(row.pd.goodput_requests_per_s.mean),
            percent(row.pd.good_share.mean),
            change(row.difference_requests_per_s),
        )
    return (table,)


def _picture(study: GoodputAnswer) -> Figure:
    figure, (axis,) = drawn("Goodput by what is offered", study)
    offered = [row.requests_per_s for row in study.rows]
    for (name, label), colour, marker in zip(LABELLED, PALETTE, ("o", "s"), strict=False):
        found = [getattr(row, name).goodput_requests_per_s for row in study.rows]
        means, errors = bars_of(found)
        axis.errorbar(offered, means, yerr=errors, fmt=f"{marker}-", capsize=3, color=colour, label=label)
    axis.plot([0, max(offered)], [0, max(offered)], ":", color=GREY, label="all that is offered")
    axis.set_xlabel("requests/s offered")
    axis.set_ylabel("requests/s within the SLO")
    axis.set_ylim(bottom=0)
    plain_numbers(axis.xaxis, axis.yaxis)
    legend_below(figure, axis)
    return figure


STUDY = StandaloneStudy(
    mode=PD,
    ask=goodput,
    sentence=goodput_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    smoke=(
        "studies.replications=3",
        "studies.most_replications=6",
        "studies.max_requests=400",
        "studies.budget_requests=30000",
    ),
)
