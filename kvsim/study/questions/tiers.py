"""What each tier adds to those above it, and what a GB of it buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.record.labels import number, percent
from kvsim.record.plain import OMITTED, spliced
from kvsim.spec.tier_kinds import DRAM, EIC, SSD
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import MemoryMeans, changed, means, replicated
from kvsim.study.pictures import PALETTE, figure_of, legend_below, plain_numbers
from kvsim.study.replication import Apart, Replicated
from kvsim.study.words import budget_spent, change, growing_there, ran_of, ran_on, saved_width, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Added:
    """What the lowest tier changes; TTFT is what it saves of the mean."""

    used_gb: float
    hit_points: float
    ttft_mean_ms: float
    ttft_mean_ms_per_tb: float
    ttft_difference_ms: Apart


@dataclass(frozen=True, kw_only=True)
class TiersRow:
    """A run with so many tiers, ``hbm`` first."""

    tiers: tuple[str, ...]
    means: MemoryMeans = field(metadata=spliced())
    added: Added | None = field(default=None, metadata=OMITTED)
    """``None`` where there is no tier below the instances' own caches."""


@dataclass(frozen=True, kw_only=True)
class TiersAnswer(StudyAnswer):
    """A row for no tier, for the first, for the first two and so on."""

    requests: int
    """The mean of a run."""
    rows: tuple[TiersRow, ...]


def tiers_study(context: StudyContext) -> TiersAnswer:
    """What each tier adds to those above it, and what a GB of it buys."""
    plan = context.sample
    plans = {plan.tiers[:count]: changed(plan, plan.tiers[:count]) for count in range(len(plan.tiers) + 1)}
    found = replicated(context, plans, lambda names: names[:-1], context.goal("ttft_mean_ms"))
    rows = (
        TiersRow(tiers=("hbm", *names), means=means(found, names), added=_added(found, names) if names else None)
        for names in plans
    )
    return TiersAnswer(size=context.size(plan), runs=found.runs, requests=found.requests_a_run, rows=tuple(rows))


def _added(found: Replicated[tuple[str, ...]], names: tuple[str, ...]) -> Added:
    used_gb, apart = means(found, names).held_gb[names[-1]], found.apart(names, names[:-1], "ttft_mean_ms")
    return Added(
        used_gb=used_gb,
        hit_points=100 * found.apart(names, names[:-1], "hit_rate").mean,
        ttft_mean_ms=-apart.mean,
        ttft_mean_ms_per_tb=-1e3 * apart.mean / max(used_gb, 1e-9),
        ttft_difference_ms=apart,
    )


def tiers_sentence(study: TiersAnswer) -> str:
    """What each of them saves."""
    added = [(row.tiers[-1], row.added) for row in study.rows if row.added is not None]
    if not added:
        return "there are no tiers below the instances' own caches"
    growing = growing_there(*((" + ".join(row.tiers), row.means.growing_share) for row in study.rows))
    saving = [(name, tier) for name, tier in added if tier.ttft_difference_ms.verdict == "lower"]
    unclear = [name for name, tier in added if tier.ttft_difference_ms.verdict == "open"]
    if not saving and not unclear:
        share = f"{100 * study.runs.tie_share:g}%"
        none = f"no tier lowers mean TTFT by more than {share}: those above it hold what is asked for again"
        return none + growing
    said = [
        f"{name} saves {saved_width(tier.ttft_difference_ms)} ms of mean TTFT and "
        f"{tier.hit_points:.1f} points of hit rate, with {number(tier.used_gb)} GB in use"
        for name, tier in saving
    ]
    said += [f"what {', '.join(unclear)} saves of mean TTFT is not told apart from nothing"] if unclear else []
    return "; ".join(said) + growing + budget_spent(study.runs)


def _table(study: TiersAnswer) -> Table:
    title = f"What each tier adds\n{ran_of(study, study.requests)}"
    table = table_of(title, ("tiers", "hit rate", "TTFT mean ms", "p99", "used GB", "TTFT change", "ms a TB"))
    for row in study.rows:
        added, means = row.added, row.means
        extra = (
            [number(added.used_gb), change(added.ttft_difference_ms), number(added.ttft_mean_ms_per_tb)]
            if added
            else ["", "", ""]
        )
        name = f"+ {row.tiers[-1]}" if added else " + ".join(row.tiers)
        table.add_row(name, percent(means.hit_rate), number(means.ttft_mean_ms), number(means.ttft_p99_ms), *extra)
    return table


_TIER_COLOURS = {"hbm": "#404040", DRAM.name: "#0072B2", EIC.name: "#009E73", SSD.name: "#E69F00"}


def _picture(study: TiersAnswer) -> Figure:
    figure, (hits, ttfts) = figure_of("What each tier adds", ran_on(study.size, study.requests), 2)
    rows = [row.means for row in study.rows]
    labels = ["\n+ ".join(row.tiers) for row in study.rows]
    _stacked_hits(hits, rows)
    ttfts.bar(range(len(rows)), [row.ttft_mean_ms for row in rows], color=PALETTE[0], label="mean")
    ttfts.plot(range(len(rows)), [row.ttft_p99_ms for row in rows], "o", color=PALETTE[1], label="p99")
    for axis in (hits, ttfts):
        axis.set_xticks(range(len(rows)), labels, fontsize=8)
    ttfts.set_ylabel("TTFT (ms)")
    ttfts.set_ylim(0, 1.05 * ttfts.get_ylim()[1])
    plain_numbers(hits.yaxis, ttfts.yaxis)
    legend_below(figure, hits, ttfts)
    return figure


def _stacked_hits(axis: Axes, rows: Sequence[MemoryMeans]) -> None:
    below = [0.0] * len(rows)
    for tier, colour in _TIER_COLOURS.items():
        shares = [100 * _share(row, tier) for row in rows]
        if any(shares):
            axis.bar(range(len(rows)), shares, bottom=below, color=colour, label=tier)
        below = [low + share for low, share in zip(below, shares, strict=True)]
    axis.set_ylabel("prompt tokens hit (%)")
    axis.set_ylim(0, 1.05 * max(*below, 1.0))


def _share(row: MemoryMeans, tier: str) -> float:
    return row.hit_rate - sum(row.by_tier.values()) if tier == "hbm" else row.by_tier.get(tier, 0.0)


STUDY = Study(
    name="tiers",
    places={"single": 1, "cluster": 0},
    systems=frozenset({"unified"}),
    ask=tiers_study,
    sentence=tiers_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
