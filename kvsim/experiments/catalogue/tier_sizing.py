"""What each GB of DRAM, SSD and file system buys: hits, TTFT, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from kvsim.config.schema import Prices
from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.plan.mode import CLUSTER
from kvsim.plan.plan import Plan
from kvsim.record.labels import listed, number, percent
from kvsim.record.plain import spliced
from kvsim.spec.tier_kinds import DRAM, SSD
from kvsim.study.answer import StudyAnswer
from kvsim.study.memory import MemoryMeans, changed, means, replicated
from kvsim.study.pictures import PALETTE, bars_of, drawn, legend_below, plain_numbers, plain_powers
from kvsim.study.replication import Apart, Replicated
from kvsim.study.words import budget_spent, change, growing_there, said_of, sample_of, saved_width, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NONE, HOST, SHARED = "none", "ssd", "file system"
DRAM_GB = (50.0, 200.0, 800.0)
BESIDE_GB = (50.0, (200.0, 800.0))
"""So much DRAM, and below it drives or a file system of these sizes."""
TTFT, HITS = "ttft_mean_ms", "hit_rate"
SHARE_OF_MOST = 0.95
"""Who saves this much of what the best saves is as good."""


class Memory(NamedTuple):
    """What a host has below its instances' own caches; GB."""

    dram_gb: float = 0.0
    below: str = NONE
    below_gb: float = 0.0

    @property
    def label(self) -> str:
        if not self.dram_gb:
            return "nothing"
        dram = f"{self.dram_gb:,.10g} GB DRAM"
        return dram if self.below == NONE else f"{dram} + {self.below_gb:,.10g} GB {self.below}"

    @property
    def less(self) -> Memory:
        """What it is compared with beside nothing: the same without what stands below."""
        return self._replace(below=NONE, below_gb=0.0) if self.below_gb else Memory()

    def cost(self, price: Prices) -> float:
        """Money for one host, in the currency of ``studies.price_per_gb``."""
        per_gb = {NONE: 0.0, HOST: price.ssd, SHARED: price.file_system}[self.below]
        return self.dram_gb * price.dram + self.below_gb * per_gb


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One host's memory, beside none."""

    memory: str
    dram_gb: float
    below: str
    below_gb: float
    cost_per_host: float
    means: MemoryMeans = field(metadata=spliced())
    ttft_difference_ms: Apart
    """To no memory."""
    hit_rate_difference: Apart
    added_ttft_ms: Apart
    """To what it has less what stands lowest."""
    ms_per_gb: float
    """What is saved of mean TTFT by a GB, of all it has."""
    ms_per_1000: float
    """And by a thousand in money; 0 where it costs nothing."""


@dataclass(frozen=True, kw_only=True)
class SizingAnswer(StudyAnswer):
    """Every size, none first."""

    requests: int
    """The mean of a run."""
    price_per_gb: Prices
    rows: tuple[SizeRow, ...]


def memories() -> list[Memory]:
    """What is compared, none first."""
    dram_gb, sizes_gb = BESIDE_GB
    below = [Memory(dram_gb, kind, size_gb) for kind in (HOST, SHARED) for size_gb in sizes_gb]
    return [Memory(), *(Memory(size_gb) for size_gb in DRAM_GB), *below]


def tier_sizing(bench: Bench) -> SizingAnswer:
    """Every memory serves equal requests, again and again."""
    context = bench.loaded_context("unified")
    plans = {memory: with_memory(context.sample, memory) for memory in memories()}
    found = replicated(context, plans, lambda _: Memory(), context.goal(TTFT))
    price = bench.config.studies.price_per_gb
    return SizingAnswer(
        size=context.size(context.sample),
        runs=found.runs,
        requests=found.requests_a_run,
        price_per_gb=price,
        rows=tuple(_row(found, memory, price) for memory in plans),
    )


def with_memory(plan: Plan, memory: Memory) -> Plan:
    """The plan whose hosts have that."""
    if not memory.dram_gb:
        return changed(plan, ())
    if memory.below == NONE:
        return changed(plan, (DRAM.name,), hardware__dram__capacity_gb=memory.dram_gb)
    return changed(
        plan,
        (DRAM.name, SSD.name),
        hardware__dram__capacity_gb=memory.dram_gb,
        hardware__ssd__capacity_gb=memory.below_gb,
        cluster__ssd_scope="host" if memory.below == HOST else "cluster",
    )


def _row(found: Replicated[Memory], memory: Memory, price: Prices) -> SizeRow:
    apart, cost = found.apart(memory, Memory(), TTFT), memory.cost(price)
    size_gb = memory.dram_gb + memory.below_gb
    return SizeRow(
        memory=memory.label,
        dram_gb=memory.dram_gb,
        below=memory.below,
        below_gb=memory.below_gb,
        cost_per_host=cost,
        means=means(found, memory),
        ttft_difference_ms=apart,
        hit_rate_difference=found.apart(memory, Memory(), HITS),
        added_ttft_ms=found.apart(memory, memory.less, TTFT),
        ms_per_gb=-apart.mean / size_gb if size_gb else 0.0,
        ms_per_1000=-1e3 * apart.mean / cost if cost else 0.0,
    )


def sizing_sentence(study: SizingAnswer) -> str:
    """What the first GBs of DRAM save, what more of it and drives add, and what is cheapest for most of that."""
    none, first, *_ = study.rows
    parts = [
        f"without memory below the GPUs mean TTFT is {number(none.means.ttft_mean_ms)} ms; {first.memory} a host "
        f"{_saves(first)}"
    ]
    parts += [
        f"{row.below_gb:,.10g} GB of {row.below} below {row.dram_gb:,.10g} GB of DRAM {_adds(row.added_ttft_ms)}"
        for row in study.rows
        if row.below != NONE
    ]
    saving = [row for row in study.rows[1:] if row.ttft_difference_ms.verdict == "lower"]
    if saving:
        most = min(row.ttft_difference_ms.mean for row in saving)
        enough = [row for row in saving if row.ttft_difference_ms.mean <= SHARE_OF_MOST * most]
        cheapest = min(enough, key=lambda row: row.cost_per_host)
        parts.append(
            f"the cheapest that saves {percent(SHARE_OF_MOST)} of the most, by means, is {cheapest.memory} for "
            f"{number(cheapest.cost_per_host)} a host ({_per(cheapest)}), at prices of {_prices(study.price_per_gb)}"
        )
    growing = growing_there(*((row.memory, row.means.growing_share) for row in study.rows))
    return "; ".join(parts) + growing + budget_spent(study.runs)


def _prices(price: Prices) -> str:
    return listed([f"{price.dram:g} a GB of DRAM", f"{price.ssd:g} of SSD", f"{price.file_system:g} of file system"])


def _per(row: SizeRow) -> str:
    return f"{number(row.ms_per_gb)} ms a GB and {number(row.ms_per_1000)} ms a thousand"


def _saves(row: SizeRow) -> str:
    apart = row.ttft_difference_ms
    if apart.verdict == "lower":
        return f"saves {saved_width(apart)} ms of it, {_per(row)}"
    return f"{'ties with none' if apart.tie else _adds(apart)}"


def _adds(apart: Apart) -> str:
    if apart.tie:
        return "ties with that DRAM alone"
    return "is not told apart from less" if apart.verdict == "open" else f"changes mean TTFT by {said_of(apart)}"


def _tables(study: SizingAnswer) -> tuple[Table, ...]:
    title = f"Memory a host: hits, mean TTFT (ms), money\n{sample_of(study, study.requests)}"
    table = table_of(title, ("memory", "money", "hits", "TTFT", "saved", "a GB", "a thousand"))
    for row in study.rows:
        is_first = row is study.rows[0]
        table.add_row(
            row.memory,
            number(row.cost_per_host),
            percent(row.means.hit_rate),
            number(row.means.ttft_mean_ms),
            "" if is_first else change(row.ttft_difference_ms),
            "" if is_first else number(row.ms_per_gb),
            "" if is_first else number(row.ms_per_1000),
        )
    return (table,)


def _picture(study: SizingAnswer) -> Figure:
    figure, (axis,) = drawn("What memory saves, and what it costs", study, requests=study.requests)
    rows = study.rows[1:]
    for kind, colour, label in zip((NONE, HOST, SHARED), PALETTE, ("DRAM", "+ ssd", "+ file system"), strict=False):
        own = [row for row in rows if row.below == kind]
        found, errors = bars_of([row.ttft_difference_ms.interval for row in own])
        costs = [row.cost_per_host for row in own]
        axis.errorbar(costs, [-mean for mean in found], yerr=errors, fmt="o-", capsize=3, color=colour, label=label)
        for row, mean in zip(own, found, strict=True):
            size = f"{row.below_gb or row.dram_gb:,.10g} GB"
            axis.annotate(size, (row.cost_per_host, -mean), xytext=(4, -10), textcoords="offset points", fontsize=8)
    if all(row.cost_per_host for row in rows):
        axis.set_xscale("log")
        plain_powers(axis.xaxis, *axis.get_xlim())
    axis.set_xlabel("money a host")
    axis.set_ylabel("mean TTFT saved (ms)")
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    plain_numbers(axis.yaxis)
    legend_below(figure, axis)
    return figure


STUDY = StandaloneStudy(
    mode=CLUSTER,
    ask=tier_sizing,
    sentence=sizing_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    sets=("cluster.gpu.kv_capacity_gb=10", "load.rho=0.4"),
    smoke=(
        "studies.replications=5",
        "studies.most_replications=5",
        "studies.max_requests=300",
        "studies.tier_budget_requests=12000",
    ),
    at_load=True,
)
