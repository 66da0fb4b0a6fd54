"""What each tier adds to those above it, and what a GB of it buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from kvsim.record.labels import number, percent
from kvsim.spec.tier_kinds import DRAM, EIC, SSD
from kvsim.study.catalogue import Found, Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import changed, means, replicated
from kvsim.study.pictures import PALETTE, figure_of, legend_below, plain_numbers
from kvsim.study.words import budget_spent, change, growing_there, ran_of, ran_on, saved_width, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def tiers_study(context: StudyContext) -> dict[str, Any]:
    """What each tier adds to those above it, and what a GB of it buys."""
    plan, rows = context.sample, list[dict[str, Any]]()
    plans = {plan.tiers[:count]: changed(plan, plan.tiers[:count]) for count in range(len(plan.tiers) + 1)}
    found = replicated(context, plans, lambda names: names[:-1], context.goal("ttft_mean_ms"))
    for names in plans:
        row = {"tiers": ["hbm", *names], **means(found, names)}
        if names:
            gigabytes, apart = row["held_gb"][names[-1]], found.apart(names, names[:-1], "ttft_mean_ms")
            row["added"] = {
                "used_gb": gigabytes,
                "hit_points": 100 * found.apart(names, names[:-1], "hit_rate").interval.mean,
                "ttft_mean_ms": -apart.interval.mean,
                "ttft_mean_ms_per_tb": -1e3 * apart.interval.mean / max(gigabytes, 1e-9),
                "ttft_difference_ms": apart.report(),
            }
        rows.append(row)
    return {**context.sizes(context.sample), **found.report(), "requests": found.requests_a_run, "rows": rows}


def tiers_sentence(study: Found) -> str:
    """What each of them saves."""
    added = [row for row in study["rows"] if row.get("added")]
    if not added:
        return "there are no tiers below the instances' own caches"
    growing = growing_there(*((" + ".join(row["tiers"]), row) for row in study["rows"]))
    saving = [row for row in added if row["added"]["ttft_difference_ms"]["verdict"] == "lower"]
    unclear = [row["tiers"][-1] for row in added if row["added"]["ttft_difference_ms"]["verdict"] == "open"]
    if not saving and not unclear:
        share = f"{100 * study['tie_share']:g}%"
        none = f"no tier lowers mean TTFT by more than {share}: those above it hold what is asked for again"
        return none + growing
    said = [
        f"{row['tiers'][-1]} saves {saved_width(row['added']['ttft_difference_ms'])} ms of mean TTFT and "
        f"{row['added']['hit_points']:.1f} points of hit rate, with {number(row['added']['used_gb'])} GB in use"
        for row in saving
    ]
    said += [f"what {', '.join(unclear)} saves of mean TTFT is not told apart from nothing"] if unclear else []
    return "; ".join(said) + growing + budget_spent(study)


def _table(study: Found) -> Table:
    title = f"What each tier adds\n{ran_of(study)}"
    table = table_of(title, ("tiers", "hit rate", "TTFT mean ms", "p99", "used GB", "TTFT change", "ms a TB"))
    for row in study["rows"]:
        added = row.get("added")
        extra = (
            [number(added["used_gb"]), change(added["ttft_difference_ms"]), number(added["ttft_mean_ms_per_tb"])]
            if added
            else ["", "", ""]
        )
        name = f"+ {row['tiers'][-1]}" if added else " + ".join(row["tiers"])
        table.add_row(name, percent(row["hit_rate"]), number(row["ttft_mean_ms"]), number(row["ttft_p99_ms"]), *extra)
    return table


_TIER_COLOURS = {"hbm": "#404040", DRAM.name: "#0072B2", EIC.name: "#009E73", SSD.name: "#E69F00"}


def _picture(study: Found) -> Figure:
    figure, (hits, ttfts) = figure_of("What each tier adds", ran_on(study), 2)
    rows = study["rows"]
    labels = ["\n+ ".join(row["tiers"]) for row in rows]
    _stacked_hits(hits, rows)
    ttfts.bar(range(len(rows)), [row["ttft_mean_ms"] for row in rows], color=PALETTE[0], label="mean")
    ttfts.plot(range(len(rows)), [row["ttft_p99_ms"] for row in rows], "o", color=PALETTE[1], label="p99")
    for axis in (hits, ttfts):
        axis.set_xticks(range(len(rows)), labels, fontsize=8)
    ttfts.set_ylabel("TTFT (ms)")
    ttfts.set_ylim(0, 1.05 * ttfts.get_ylim()[1])
    plain_numbers(hits.yaxis, ttfts.yaxis)
    legend_below(figure, hits, ttfts)
    return figure


def _stacked_hits(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    below = [0.0] * len(rows)
    for tier, colour in _TIER_COLOURS.items():
        shares = [100 * _share(row, tier) for row in rows]
        if any(shares):
            axis.bar(range(len(rows)), shares, bottom=below, color=colour, label=tier)
        below = [low + share for low, share in zip(below, shares, strict=True)]
    axis.set_ylabel("prompt tokens hit (%)")
    axis.set_ylim(0, 1.05 * max(*below, 1.0))


def _share(row: Mapping[str, Any], tier: str) -> float:
    lower = row["by_tier"]
    share: float = row["hit_rate"] - sum(lower.values()) if tier == "hbm" else lower.get(tier, 0.0)
    return share


STUDY = Study(
    name="tiers",
    places={"single": 1, "cluster": 0},
    systems=frozenset({"unified"}),
    ask=tiers_study,
    sentence=tiers_sentence,
    table=_table,
    figure=_picture,
)
