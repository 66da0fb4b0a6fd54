"""What tiers save where sessions begin with long contexts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.sources import SessionsTraffic
from kvsim.errors import CapacityError
from kvsim.record.labels import number, percent
from kvsim.record.plain import spliced
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import MemoryMeans, changed, means, replicated
from kvsim.study.pictures import PALETTE, figure_of, hits_and_ttfts, legend_below, named_places
from kvsim.study.replication import Apart, Runs
from kvsim.study.words import budget_spent, change, growing_there, ran_of, saved_width, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DEMAND_REQUESTS = 64
"""Requests of sessions with long contexts that tell what rate they allow."""


@dataclass(frozen=True, kw_only=True)
class ContextRow:
    """Sessions that begin with contexts of one length."""

    context_tokens: int
    requests: int
    """The mean of a run."""
    requests_per_s: float
    runs: Runs = field(metadata=spliced())
    with_tiers: MemoryMeans
    without: MemoryMeans
    saved: Apart
    """Mean TTFT, in ms, with tiers less that without."""


@dataclass(frozen=True, kw_only=True)
class ContextsAnswer(StudyAnswer):
    """Every length that fits."""

    runs: Runs = field(
        metadata=spliced("replications", "fewest_replications", "confidence", "tie_share", "precision", "within_budget")
    )
    rows: tuple[ContextRow, ...]


def context_study(context: StudyContext) -> ContextsAnswer:
    """Sessions that begin with long contexts, with the tiers and without; the load per token of the run.

    Raises ``CapacityError`` where the turns of a session alone are more than an instance takes.
    """
    traffic, settings = context.mode.sessions(context.plan.config)[1], context.sample.colocated_settings
    most_tokens = min(settings.max_model_len, settings.room_tokens)
    turns_tokens = traffic.turns_per_session * (traffic.prompt_tokens_max + 8 * int(traffic.output_tokens_mean))
    longest = most_tokens - turns_tokens
    if longest < 1:
        raise CapacityError(
            f"no context fits: {turns_tokens:,} tokens for a session's turns are no fewer than the {most_tokens:,} "
            "that the model and the KV blocks of an instance take"
        )
    contexts = list(dict.fromkeys(min(asked, longest) for asked in context.settings.context_tokens))
    rows = tuple(_context_row(context, tokens, 1 / len(contexts)) for tokens in contexts)
    return ContextsAnswer(
        size=replace(context.size(context.sample), trace_requests=None),
        runs=context.runs_of([row.runs for row in rows]),
        rows=rows,
    )


def _context_row(context: StudyContext, context_tokens: int, share: float) -> ContextRow:
    section, traffic = context.mode.sessions(context.plan.config)
    mean_tokens = float(context.first_part.prompt_tokens.mean())
    long = traffic.model_copy(update={"initial_context_tokens": context_tokens, "num_rag_chunks": 0})
    config = context.plan.config.model_copy(update={section: long})
    source = SessionsTraffic(config, context.mode)
    demand = demand_of(source.at_rate(1.0, _DEMAND_REQUESTS), context.sample)
    most_per_s = maximum_rate(context.sample, demand, "unified")
    rate_per_s = min(context.sample_requests_per_s * min(1.0, mean_tokens / context_tokens), most_per_s)
    num = max(context.most_requests // 4, 50)
    plans = {"with_tiers": context.sample, "without": changed(context.sample, ())}
    found = replicated(
        context,
        plans,
        lambda _: "without",
        context.goal("ttft_mean_ms"),
        lambda seed: source.sample(rate_per_s, num, None, seed),
        share,
    )
    return ContextRow(
        context_tokens=context_tokens,
        requests=found.requests_a_run,
        requests_per_s=rate_per_s,
        runs=found.runs,
        with_tiers=means(found, "with_tiers"),
        without=means(found, "without"),
        saved=found.apart("with_tiers", "without", "ttft_mean_ms"),
    )


def contexts_sentence(study: ContextsAnswer) -> str:
    """What tiers save at each length, as a share of what TTFT is there without them too."""
    if not study.rows:
        return "no context length fits the model"
    growing = growing_there(
        *((f"without tiers at {row.context_tokens:,}", row.without.growing_share) for row in study.rows)
    )
    saving = [row for row in study.rows if row.saved.verdict == "lower"]
    unclear = [row for row in study.rows if row.saved.verdict == "open"]
    if not saving and not unclear:
        return f"tiers lower mean TTFT by less than {100 * study.runs.tie_share:g}% at every context{growing}"
    said = [
        f"at {row.context_tokens:,} tokens tiers save {saved_width(row.saved)} ms of mean TTFT, "
        f"{percent(-row.saved.mean / row.without.ttft_mean_ms)}"
        for row in saving
    ]
    if unclear:
        lengths = ", ".join(f"{row.context_tokens:,}" for row in unclear)
        said.append(f"at {lengths} tokens with and without tiers are not told apart")
    return "; ".join(said) + growing + budget_spent(study.runs)


def _table(study: ContextsAnswer) -> Table:
    title = f"Contexts, with tiers and without: hits, mean TTFT (ms)\n{ran_of(study)}"
    table = table_of(title, ("tokens", "hits", "TTFT", "p99", "without", "TTFT", "p99", "change"), names=False)
    for row in study.rows:
        cells = []
        for found in (row.with_tiers, row.without):
            cells += [percent(found.hit_rate), number(found.ttft_mean_ms), number(found.ttft_p99_ms)]
        table.add_row(f"{row.context_tokens:,}", *cells, change(row.saved))
    return table


def _picture(study: ContextsAnswer) -> Figure:
    figure, (hits, ttfts) = figure_of("Contexts", f"{study.size.instances} instances", 2)
    shown = {"with tiers": [row.with_tiers for row in study.rows], "without": [row.without for row in study.rows]}
    for shift, (label, found) in enumerate(shown.items()):
        at = [place + 0.4 * shift - 0.2 for place in range(len(found))]
        colour = PALETTE[shift]
        hits.bar(at, [100 * means.hit_rate for means in found], width=0.38, color=colour, label=label)
        ttfts.bar(at, [means.ttft_mean_ms for means in found], width=0.38, color=colour, label=label)
    for axis in (hits, ttfts):
        named_places(axis.xaxis, [f"{row.context_tokens:,}" for row in study.rows])
        axis.set_xlabel("context (tokens)")
    hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure


STUDY = Study(
    name="context",
    places={"cluster": 3},
    systems=frozenset({"unified"}),
    ask=context_study,
    sentence=contexts_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
    section="contexts",
)
