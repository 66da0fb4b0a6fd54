"""The rack's pool off, and of several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.record.plain import spliced
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import MemoryMeans, changed, means, replicated
from kvsim.study.pictures import PALETTE, figure_of, hits_and_ttfts, legend_below, named_places
from kvsim.study.replication import Apart
from kvsim.study.words import budget_spent, growing_there, ran_of, ran_on, said_of, table_of
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class OverNoPool:
    """What a pool changes."""

    hit_rate: Apart
    ttft_mean_ms: Apart


@dataclass(frozen=True, kw_only=True)
class PoolRow:
    """A pool of one size, 0 for none, beside the memory of hosts or without."""

    beside: tuple[str, ...]
    """``hbm``, and ``dram`` where hosts have some."""
    pool_gb_per_rack: float
    means: MemoryMeans = field(metadata=spliced())
    over_no_pool: OverNoPool


@dataclass(frozen=True, kw_only=True)
class EicAnswer(StudyAnswer):
    """Every size, beside the instances' own caches first."""

    racks: int
    requests: int
    """The mean of a run."""
    hbm_kv_gb_per_instance: float
    smaller_than_an_instance: tuple[float, ...]
    """Sizes of pools that are, in GB."""
    rows: tuple[PoolRow, ...]


def eic_study(context: StudyContext) -> EicAnswer:
    """The rack's pool off, and of several sizes, beside the instances' own caches alone and beside host memory."""
    plan = context.sample
    own_gb = plan.spec.num_blocks * plan.spec.block_size_tokens * plan.spec.kv_bytes_per_token / GB
    above = tuple(name for name in plan.tiers if name == "dram")
    sizes_gb = sorted({0.0, *context.settings.eic_gb_per_rack})
    plans = {
        (beside, pool_gb): _with_pool(plan, beside, pool_gb)
        for beside in dict.fromkeys([(), above])
        for pool_gb in sizes_gb
    }
    found = replicated(context, plans, lambda arm: (arm[0], 0.0), context.goal("ttft_mean_ms"))
    rows = []
    for beside, pool_gb in plans:
        arm, off = (beside, pool_gb), (beside, 0.0)
        row = PoolRow(
            beside=("hbm", *beside),
            pool_gb_per_rack=pool_gb,
            means=means(found, arm),
            over_no_pool=OverNoPool(
                hit_rate=found.apart(arm, off, "hit_rate"), ttft_mean_ms=found.apart(arm, off, "ttft_mean_ms")
            ),
        )
        rows.append(row)
    return EicAnswer(
        size=context.size(plan),
        runs=found.runs,
        racks=plan.num_racks,
        requests=found.requests_a_run,
        hbm_kv_gb_per_instance=own_gb,
        smaller_than_an_instance=tuple(gb for gb in sizes_gb if 0 < gb < own_gb),
        rows=tuple(rows),
    )


def _with_pool(plan: Plan, beside: tuple[str, ...], pool_gb: float) -> Plan:
    nodes = max(1, plan.config.cluster.eic.nodes_per_rack)
    return changed(
        plan,
        (*beside, "eic") if pool_gb else beside,
        cluster__eic__capacity_per_node_gb=(pool_gb or 1.0) / nodes,
        cluster__eic__nodes_per_rack=nodes,
    )


def eic_sentence(study: EicAnswer) -> str:
    """What the pool changes, and that a small one does not."""
    alone = [row for row in study.rows if row.beside == ("hbm",)]
    off = next((row for row in alone if not row.pool_gb_per_rack), alone[0])
    largest = max(alone, key=lambda row: row.pool_gb_per_rack)
    hit_rate, ttft_mean_ms = _beside_off(largest, off)
    said = [
        f"beside the instances' own caches alone, a pool of {number(largest.pool_gb_per_rack)} GB a rack takes the "
        f"hit rate from {percent(off.means.hit_rate)} to {percent(hit_rate)} and mean TTFT "
        f"from {number(off.means.ttft_mean_ms)} to {number(ttft_mean_ms)} ms{_verdict(largest)}"
    ]
    for small in study.smaller_than_an_instance:
        row = next(row for row in alone if row.pool_gb_per_rack == small)
        if largest.over_no_pool.hit_rate.verdict != "higher":
            continue
        share = row.over_no_pool.hit_rate.mean / largest.over_no_pool.hit_rate.mean
        said.append(
            f"one of {number(small)} GB, less than the {number(study.hbm_kv_gb_per_instance)} GB that one instance "
            f"holds itself, buys {percent(max(share, 0.0))} of those hits"
        )
    if largest.means.busiest_share.get("eic", 0.0) > 0.9:
        said.append("its port is the bottleneck")
    growing = growing_there(
        *(
            (f"{' + '.join(row.beside)}, {number(row.pool_gb_per_rack)} GB", row.means.growing_share)
            for row in study.rows
        )
    )
    return "; ".join(said + _beside_memory(study)) + growing + budget_spent(study.runs)


def _beside_off(row: PoolRow, off: PoolRow) -> tuple[float, float]:
    """Hit rate and mean TTFT, in ms: what no pool has, and the difference to it, as it may have been run more often."""
    apart, means = row.over_no_pool, off.means
    return means.hit_rate + apart.hit_rate.mean, means.ttft_mean_ms + apart.ttft_mean_ms.mean


def _verdict(row: PoolRow) -> str:
    """Whether that much less or more TTFT than without a pool is one; how surely, where it is."""
    apart = row.over_no_pool.ttft_mean_ms
    words = {"same": ", which is the same", "tie": ", a tie", "open": ", which are not told apart"}
    return words.get(apart.verdict, f" ({said_of(apart)})")


def _beside_memory(study: EicAnswer) -> list[str]:
    """What the largest pool adds where hosts have memory too."""
    beside = [row for row in study.rows if len(row.beside) > 1]
    if not beside:
        return []
    off, largest = beside[0], max(beside, key=lambda row: row.pool_gb_per_rack)
    hit_rate, ttft_mean_ms = _beside_off(largest, off)
    return [
        f"beside host memory, which hits {percent(off.means.hit_rate)}, {percent(hit_rate)} and "
        f"{number(off.means.ttft_mean_ms)} to {number(ttft_mean_ms)} ms{_verdict(largest)}"
    ]


def _table(study: EicAnswer) -> Table:
    table = table_of(
        f"The rack's pool: hits, and TTFT by mean and p99\n{ran_of(study, study.requests)}",
        ("beside", "GB a rack", "hits", "by pool", "mean ms", "p99 ms", "busiest", "wait ms"),
    )
    for row in study.rows:
        means = row.means
        table.add_row(
            " + ".join(row.beside),
            number(row.pool_gb_per_rack),
            percent(means.hit_rate),
            percent(means.by_tier.get("eic", 0.0)),
            number(means.ttft_mean_ms),
            number(means.ttft_p99_ms),
            percent(means.busiest_share.get("eic", 0.0)),
            number(means.mean_wait_ms.get("eic", 0.0)),
        )
    return table


def _picture(study: EicAnswer) -> Figure:
    figure, (hits, ttfts) = figure_of("The rack's pool", ran_on(study.size, study.requests), 2)
    beside = list(dict.fromkeys(row.beside for row in study.rows))
    sizes = sorted({row.pool_gb_per_rack for row in study.rows})
    for names, colour in zip(beside, PALETTE, strict=False):
        rows = [row for row in study.rows if row.beside == names]
        at = [sizes.index(row.pool_gb_per_rack) for row in rows]
        label = f"beside {' + '.join(names)}"
        hits.plot(at, [100 * row.means.hit_rate for row in rows], marker="o", color=colour, label=label)
        ttfts.plot(at, [row.means.ttft_mean_ms for row in rows], marker="o", color=colour)
    for axis in (hits, ttfts):
        named_places(axis.xaxis, [f"{size:,.10g}" for size in sizes])
        axis.set_xlabel("GB a rack")
    hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure


STUDY = Study(
    name="eic",
    places={"cluster": 1},
    systems=frozenset({"unified"}),
    ask=eic_study,
    sentence=eic_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
