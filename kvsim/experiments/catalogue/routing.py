"""Which router unified instances should stand behind: simple rules, prefix affinity, and those that people deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.plan.mode import PD
from kvsim.record.labels import listed, number, percent
from kvsim.record.plain import spliced
from kvsim.record.result import SystemResult
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import changed_plan
from kvsim.study.intervals import Interval
from kvsim.study.measures import latencies
from kvsim.study.pictures import PALETTE, bars_of, drawn, plain_numbers
from kvsim.study.replication import Apart, Figures
from kvsim.study.words import budget_spent, change, said_of, sample_of, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""
MEAN, P99, HITS = "ttft_mean_ms", "ttft_p99_ms", "prefix_hit_rate"
DYNAMO = "Dynamo, Routing Concepts; Configuration and Tuning (1.2)"


class Router(NamedTuple):
    """A router to compare."""

    source: str
    values: Mapping[str, object]
    """Below ``routing``."""


ROUTERS: Mapping[str, Router] = {
    "round robin": Router("one after the other", {"prefill": "round_robin"}),
    "least loaded": Router("fewest requests in flight", {"prefill": "least_loaded"}),
    "two choices": Router("Mitzenmacher 2001", {"prefill": "two_choices"}),
    "prefix affinity": Router("kvsim's own", {"prefill": "affinity"}),
    "dynamo": Router(DYNAMO, {"prefill": "dynamo"}),
    "dynamo, no overlap credit": Router(DYNAMO, {"prefill": "dynamo", "dynamo.overlap_credit": 0.0}),
    "dynamo, prefill load x 4": Router(DYNAMO, {"prefill": "dynamo", "dynamo.prefill_load_scale": 4.0}),
    "dynamo, temperature 0.5": Router(DYNAMO, {"prefill": "dynamo", "dynamo.temperature": 0.5}),
    "dynamo, events 1 s late": Router(DYNAMO, {"prefill": "dynamo", "index_staleness_ms": 1000.0}),
    "llm-d": Router("Gateway API inference extension, default scorers of llm-d", {"prefill": "llmd"}),
    "sglang": Router("SGLang's router, cache_aware", {"prefill": "sglang"}),
}
BASE = "round robin"


@dataclass(frozen=True, kw_only=True)
class RouterFigures:
    """What is measured behind one router."""

    ttft_mean_ms: Interval
    ttft_p99_ms: Interval
    tpot_mean_ms: Interval
    tpot_p99_ms: Interval
    prefix_hit_rate: Interval


@dataclass(frozen=True, kw_only=True)
class RouterRow:
    """A router, beside taking turns and beside the best."""

    router: str
    source: str
    figures: RouterFigures = field(metadata=spliced())
    mean_difference_ms: Apart
    p99_difference_ms: Apart
    hit_rate_difference: Apart
    behind_best_ms: Apart
    """Mean TTFT less the lowest of all."""


@dataclass(frozen=True, kw_only=True)
class RoutingAnswer(StudyAnswer):
    """Every router, the one that takes turns first."""

    requests: int
    """The mean of a run."""
    best: str
    """With the lowest mean TTFT."""
    rows: tuple[RouterRow, ...]


def routing(bench: Bench) -> RoutingAnswer:
    """Unified instances serve equal requests behind every router."""
    context = bench.loaded_context("unified")
    plan, rate_per_s = context.sample, context.sample_requests_per_s
    plans = {
        name: changed_plan(plan, {f"routing.{key}": value for key, value in router.values.items()}, name)
        for name, router in ROUTERS.items()
    }
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    found = context.replicate(
        list(plans),
        lambda *_: BASE,
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda name, workload, seed: context.case(name, "unified", plans[name], workload, seed),
        lambda _, __, result: _figures(result),
        context.goal(MEAN),
    )
    best = min(plans, key=lambda name: found.means(name, (MEAN,))[MEAN].mean)
    rows = (
        RouterRow(
            router=name,
            source=router.source,
            figures=RouterFigures(**found.means(name)),
            mean_difference_ms=found.apart(name, BASE, MEAN),
            p99_difference_ms=found.apart(name, BASE, P99),
            hit_rate_difference=found.apart(name, BASE, HITS),
            behind_best_ms=found.apart(name, best, MEAN),
        )
        for name, router in ROUTERS.items()
    )
    return RoutingAnswer(
        size=context.size(plan), runs=found.runs, requests=found.requests_a_run, best=best, rows=tuple(rows)
    )


def _figures(result: SystemResult) -> Figures:
    use = result.cache
    return {**latencies(result), HITS: use.hit_tokens / max(use.query_tokens, 1)}


def routing_sentence(study: RoutingAnswer) -> str:
    """Who is best by the mean, who ties with it, who is surely behind, and what tails and hits say."""
    rows = {row.router: row for row in study.rows}
    best, base = rows[study.best], rows[BASE]
    parts = [
        f"{study.best} has the lowest mean TTFT, {number(best.figures.ttft_mean_ms.mean)} ms "
        f"({said_of(best.mean_difference_ms)} against {BASE}) with {percent(best.figures.prefix_hit_rate.mean)} of "
        f"prompt tokens hit ({percent(base.figures.prefix_hit_rate.mean)}), and at p99 "
        f"{said_of(best.p99_difference_ms)}"
    ]
    near = [row.router for row in study.rows if row is not best and row.behind_best_ms.verdict in ("same", "tie")]
    unclear = [row.router for row in study.rows if row is not best and row.behind_best_ms.verdict == "open"]
    behind = [row for row in study.rows if row.behind_best_ms.verdict == "higher"]
    parts += [f"{_named(near)} tie{'s' if len(near) == 1 else ''} with it"] if near else []
    parts += [f"not told apart from it: {_named(unclear)}"] if unclear else []
    if behind:
        parts.append(f"behind it: {', '.join(f'{row.router} {said_of(row.behind_best_ms)}' for row in behind)}")
    return "; ".join(parts) + budget_spent(study.runs)


def _named(names: Sequence[str]) -> str:
    """Names that may have commas themselves."""
    return listed([f"'{name}'" if "," in name else name for name in names])


def _tables(study: RoutingAnswer) -> tuple[Table, ...]:
    title = f"Unified instances behind each router, ms, {sample_of(study, study.requests)}"
    table = table_of(title, ("router", "TTFT", "to round robin", "p99", "to round robin", "hits", "TPOT"))
    for row in study.rows:
        is_base = row.router == BASE
        table.add_row(
            row.router,
            number(row.figures.ttft_mean_ms.mean),
            "" if is_base else change(row.mean_difference_ms),
            number(row.figures.ttft_p99_ms.mean),
            "" if is_base else change(row.p99_difference_ms),
            percent(row.figures.prefix_hit_rate.mean),
            number(row.figures.tpot_mean_ms.mean),
        )
    return (table,)


def _picture(study: RoutingAnswer) -> Figure:
    figure, (means, tails) = drawn("TTFT by router", study, 2, requests=study.requests)
    names = [row.router for row in study.rows][::-1]
    for axis, label, found in (
        (means, "mean TTFT (ms)", [row.figures.ttft_mean_ms for row in study.rows]),
        (tails, "p99 TTFT (ms)", [row.figures.ttft_p99_ms for row in study.rows]),
    ):
        values, errors = bars_of(found[::-1])
        colours = [PALETTE[1] if name == study.best else PALETTE[0] for name in names]
        axis.barh(names, values, xerr=errors, capsize=2, color=colours)
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
        plain_numbers(axis.xaxis)
    means.tick_params(axis="y", labelsize=8)
    tails.set_yticklabels([])
    return figure


STUDY = StandaloneStudy(
    mode=PD,
    ask=routing,
    sentence=routing_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=(
        "pd_trace.turns_per_session=6",
        "pd_trace.think_time_s=5",
        "pd_trace.history_tokens_mean=2500",
        "pd_trace.num_system_prompts=64",
    ),
    smoke=(
        "cluster.simulate_gpus_per_rack=16",
        "studies.instances=8",
        "studies.replications=3",
        "studies.most_replications=3",
        "studies.max_requests=800",
        "studies.budget_requests=40000",
    ),
    at_load=True,
)
