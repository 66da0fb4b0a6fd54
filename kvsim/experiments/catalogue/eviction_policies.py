"""Which policy should run a tier: the single node's, and eviction by session, beside LRU and the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.config.bundles import find_bundles
from kvsim.config.load import set_values
from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.modes.variants import SINGLE_POLICIES
from kvsim.plan.mode import SINGLE
from kvsim.plan.plan import Plan
from kvsim.policy.eviction import EVICTIONS
from kvsim.record.labels import listed, number, percent
from kvsim.record.plain import spliced
from kvsim.spec.tier_kinds import DRAM, SSD
from kvsim.study.answer import StudyAnswer
from kvsim.study.memory import BEST, MemoryMeans, means, replicated
from kvsim.study.pictures import PALETTE, bars_of, drawn, plain_numbers
from kvsim.study.replication import Apart
from kvsim.study.words import budget_spent, change, growing_there, said_of, sample_of, table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASE = SINGLE_POLICIES[0]
POLICIES = (*(name for name in SINGLE_POLICIES if name != BEST), "session", "s3fifo", BEST)
"""Bundles, and eviction policies alone; the base first and the oracle last."""
HITS, TTFT = "hit_rate", "ttft_mean_ms"


@dataclass(frozen=True, kw_only=True)
class PolicyRow:
    """A policy, beside the base and beside the oracle."""

    policy: str
    means: MemoryMeans = field(metadata=spliced())
    hit_rate_difference: Apart
    ttft_mean_difference_ms: Apart
    beside_oracle_hit_rate: Apart
    """This one less the oracle: what it misses is below zero."""
    beside_oracle_ttft_mean_ms: Apart


@dataclass(frozen=True, kw_only=True)
class PoliciesAnswer(StudyAnswer):
    """Every policy, the base first and the oracle last."""

    requests: int
    """The mean of a run."""
    tier_gb_per_host: Mapping[str, float]
    rows: tuple[PolicyRow, ...]


def eviction_policies(bench: Bench) -> PoliciesAnswer:
    """Every policy serves equal requests, again and again; the tiers are as configured."""
    context = bench.loaded_context("unified")
    plans = {
        bundle.name: bench.plan_with(set_values(bundle.sets), f"policy {bundle.name}")
        for bundle in find_bundles(list(POLICIES), list(EVICTIONS))
    }
    found = replicated(context, plans, lambda _: BASE, context.goal(HITS, TTFT))
    rows = (
        PolicyRow(
            policy=name,
            means=means(found, name),
            hit_rate_difference=found.apart(name, BASE, HITS),
            ttft_mean_difference_ms=found.apart(name, BASE, TTFT),
            beside_oracle_hit_rate=found.apart(name, BEST, HITS),
            beside_oracle_ttft_mean_ms=found.apart(name, BEST, TTFT),
        )
        for name in plans
    )
    return PoliciesAnswer(
        size=context.size(context.sample),
        runs=found.runs,
        requests=found.requests_a_run,
        tier_gb_per_host=_sizes(context.sample),
        rows=tuple(rows),
    )


def _sizes(plan: Plan) -> dict[str, float]:
    """GB of the tiers that belong to a host."""
    hardware = plan.config.hardware
    sizes = {DRAM.name: hardware.dram.capacity_gb, SSD.name: hardware.ssd.capacity_gb}
    return {name: sizes[name] for name in plan.tiers if name in sizes}


def policies_sentence(study: PoliciesAnswer) -> str:
    """Which policies change anything against LRU, and how far each is from the oracle."""
    base, best = study.rows[0], study.rows[-1]
    others = study.rows[1:-1]
    told = [row for row in others if row.hit_rate_difference.verdict in ("lower", "higher")]
    tied = [row.policy for row in others if row.hit_rate_difference.tie]
    unclear = [row.policy for row in others if row.hit_rate_difference.verdict == "open"]
    sizes = ", ".join(f"{number(gb)} GB of {name}" for name, gb in study.tier_gb_per_host.items())
    parts = [
        f"with {sizes or 'no tiers'}, LRU hits {percent(base.means.hit_rate)} of prompt "
        f"tokens at a mean TTFT of {number(base.means.ttft_mean_ms)} ms, the oracle "
        f"{_points(best.hit_rate_difference)} and {said_of(best.ttft_mean_difference_ms)}"
    ]
    parts += [
        f"{row.policy} {_points(row.hit_rate_difference)} and {said_of(row.ttft_mean_difference_ms)}" for row in told
    ]
    parts += [f"{listed(tied)} tie{'s' if len(tied) == 1 else ''} with LRU in hits"] if tied else []
    parts += [f"{listed(unclear)} not told apart from it"] if unclear else []
    growing = growing_there(*((row.policy, row.means.growing_share) for row in study.rows))
    return "; ".join(parts) + growing + budget_spent(study.runs)


def _points(apart: Apart) -> str:
    return said_of(apart.scaled(100), " points")


def _tables(study: PoliciesAnswer) -> tuple[Table, ...]:
    title = f"Policies of the tiers; hits in points, TTFT in ms,\n{sample_of(study, study.requests)}"
    columns = ("policy", "hits", "against LRU", "below oracle", "TTFT", "against LRU", "above oracle")
    table = table_of(title, columns)
    for row in study.rows:
        is_base, is_best = row is study.rows[0], row is study.rows[-1]
        table.add_row(
            row.policy,
            percent(row.means.hit_rate),
            "" if is_base else change(row.hit_rate_difference.scaled(100)),
            "" if is_best else number(-100 * row.beside_oracle_hit_rate.mean),
            number(row.means.ttft_mean_ms),
            "" if is_base else change(row.ttft_mean_difference_ms),
            "" if is_best else number(row.beside_oracle_ttft_mean_ms.mean),
        )
    return (table,)


def _picture(study: PoliciesAnswer) -> Figure:
    figure, (hits, ttfts) = drawn("Policies against LRU", study, 2, requests=study.requests)
    rows = study.rows[:0:-1]
    names = [row.policy for row in rows]
    _bars(hits, names, [row.hit_rate_difference.scaled(100) for row in rows])
    _bars(ttfts, names, [row.ttft_mean_difference_ms for row in rows])
    hits.set_xlabel("prompt tokens hit (points)")
    ttfts.set_xlabel("mean TTFT (ms)")
    ttfts.set_yticklabels([])
    return figure


def _bars(axis: Axes, names: list[str], apart: list[Apart]) -> None:
    found, errors = bars_of([each.interval for each in apart])
    axis.barh(names, found, xerr=errors, capsize=3, color=PALETTE[0])
    axis.axvline(0, color="0.3", linewidth=0.8)
    plain_numbers(axis.xaxis)


STUDY = StandaloneStudy(
    mode=SINGLE,
    ask=eviction_policies,
    sentence=policies_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=("hardware.hbm.kv_capacity_gb=5", "hardware.dram.capacity_gb=15", "hardware.ssd.capacity_gb=45"),
    smoke=(
        "studies.replications=3",
        "studies.most_replications=4",
        "studies.max_requests=400",
        "studies.tier_budget_requests=16000",
    ),
    at_load=True,
)
