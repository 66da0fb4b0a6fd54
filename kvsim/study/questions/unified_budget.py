"""How large the unified baseline's steps should be: token budgets side by side at the run's rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from kvsim.record.labels import number, percent
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.study.catalogue import Found, Study
from kvsim.study.context import StudyContext
from kvsim.study.measures import LOAD, latencies, own_load
from kvsim.study.pictures import BLUE, ORANGE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.words import at_rate, budget_spent, change, overloaded_there, table_of
from kvsim.units import MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


def unified_budget_study(context: StudyContext) -> dict[str, Any]:
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
        apart = found.apart(tokens, used, "good_share").report()
        row = {"max_num_batched_tokens": tokens, "used": tokens == used, **found.means(tokens)}
        tie = tokens != used and apart["tie"]
        rows.append({**row, "good_share_difference": apart, "runs": len(found.figures[tokens]), "tie": tie})
    return {
        **context.sizes(plan),
        **found.report(),
        "requests": found.requests_a_run,
        "requests_per_s": rate_per_s,
        "loads": {"unified": found.means(used, (LOAD,))[LOAD]["mean"]},
        "rows": rows,
    }


def _budgets(context: StudyContext, used: int) -> list[int]:
    return sorted({*context.plan.config.engine.colocated_budgets, used})


def _figures(context: StudyContext, result: SystemResult) -> dict[str, float]:
    slo = context.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    good = in_ttft & in_tpot
    return {**latencies(result), "good_share": float(good.mean())}


def unified_budget_sentence(study: Found) -> str:
    """Which token budgets keep more or less within the SLO than the one that unified ran with."""
    used = next(row for row in study["rows"] if row["used"])
    others = [row for row in study["rows"] if not row["used"]]
    said = []
    for row in others:
        apart = row["good_share_difference"]
        if apart["verdict"] == "open":
            said.append(f"{row['max_num_batched_tokens']:,} is not told apart")
        elif not row["tie"]:
            width = "" if apart["precise"] else f" ± {number(100 * apart['half_width'])}"
            points = f"{number(abs(100 * apart['mean']))}{width} points {_side(apart['mean'])}"
            said.append(f"{row['max_num_batched_tokens']:,} has {points}")
    if others and len(said) < len(others):
        said.append("the others tie in that")
    share = percent(used["good_share"]["mean"])
    head = f"unified with {used['max_num_batched_tokens']:,} tokens a step: {share} within the SLO"
    return "; ".join([head, *said]) + overloaded_there(study) + budget_spent(study)


def _side(apart: float) -> str:
    return "more" if apart > 0 else "less"


def _table(study: Found) -> Table:
    columns = ("tokens a step; ms", "TTFT mean", "p99", "TPOT mean", "p99", "within SLO", "points")
    table = table_of(f"Unified's token budget {at_rate(study)}", columns)
    for row in study["rows"]:
        table.add_row(
            f"{row['max_num_batched_tokens']:,}",
            number(row["ttft_mean_ms"]["mean"]),
            number(row["ttft_p99_ms"]["mean"]),
            number(row["tpot_mean_ms"]["mean"]),
            number(row["tpot_p99_ms"]["mean"]),
            percent(row["good_share"]["mean"]),
            "used" if row["used"] else _points(row["good_share_difference"]),
        )
    return table


def _points(apart: Mapping[str, Any]) -> str:
    scaled = {name: None if apart[name] is None else 100 * apart[name] for name in ("mean", "half_width")}
    return change({**apart, **scaled})


_BUDGET_PANELS = (("ttft", "TTFT (ms)"), ("tpot", "TPOT (ms)"))


def _picture(study: Found) -> Figure:
    figure, axes = drawn("Unified by its token budget", study, 2)
    rows = study["rows"]
    budgets = [row["max_num_batched_tokens"] for row in rows]
    used = next(row["max_num_batched_tokens"] for row in rows if row["used"])
    for axis, (metric, label) in zip(axes, _BUDGET_PANELS, strict=True):
        for which, colour, marker in (("mean", BLUE, "o"), ("p99", ORANGE, "s")):
            means, errors = bars_of([row[f"{metric}_{which}_ms"] for row in rows])
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
)
