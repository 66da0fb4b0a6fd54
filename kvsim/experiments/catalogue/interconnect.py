"""How fast links between instances have to be: PD with NICs of 25 to 400 Gb/s, beside unified serving."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from kvsim.config.derived import nic_latency_s
from kvsim.experiments.bench import Bench
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.experiments.wire import FACTOR
from kvsim.plan.mode import PD
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.record.plain import spliced
from kvsim.record.result import SystemResult
from kvsim.study.answer import StudyAnswer
from kvsim.study.context import changed_plan
from kvsim.study.intervals import Interval
from kvsim.study.measures import ttft_ms
from kvsim.study.pictures import GREY, PALETTE, bars_of, drawn, legend_below, named_places, plain_numbers
from kvsim.study.replication import Apart, Figures
from kvsim.study.words import budget_spent, change, plus_minus, said_of, sample_of, table_of
from kvsim.units import MICRO, MILLI
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATED_GBIT = (25.0, 50.0, 100.0, 200.0, 400.0)
"""A GPU's NIC, as it is sold."""
BITS = 8.0
UNIFIED = 0.0
"""Stands for the system that moves nothing."""
TTFT, P99, EXPOSED, BUSY = "ttft_mean_ms", "ttft_p99_ms", "transfer_mean_ms", "nic_out_utilisation"
SENT = "sent_mb"


@dataclass(frozen=True, kw_only=True)
class LinkFigures:
    """What is measured with NICs of one speed."""

    ttft_mean_ms: Interval
    ttft_p99_ms: Interval
    transfer_mean_ms: Interval
    """As TTFT sees it."""
    nic_out_utilisation: Interval
    sent_mb: Interval
    """KV of a request that its decode instance lacked."""


@dataclass(frozen=True, kw_only=True)
class LinkRow:
    """NICs of one speed, beside the fastest and beside unified serving."""

    rated_gbit_per_s: float
    figures: LinkFigures = field(metadata=spliced())
    hand_transfer_ms: float
    """The KV that a request sent over the NICs of one instance, with what a transfer takes beside; nothing hidden."""
    difference_to_fastest_ms: Apart
    difference_to_unified_ms: Apart


@dataclass(frozen=True, kw_only=True)
class LinksAnswer(StudyAnswer):
    """Every speed, the slowest first."""

    requests: int
    """The mean of a run."""
    unified_ttft_ms: Interval
    rows: tuple[LinkRow, ...]


def interconnect(bench: Bench) -> LinksAnswer:
    """NICs of every speed carry equal requests."""
    context = bench.loaded_context("pd")
    plan, rate_per_s = context.sample, context.sample_requests_per_s
    plans = {gbit: with_nics(plan, gbit) for gbit in RATED_GBIT} | {UNIFIED: plan}
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    found = context.replicate(
        list(plans),
        lambda *_: RATED_GBIT[-1],
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda gbit, workload, seed: context.case(
            f"{gbit:g} Gb/s" if gbit else "unified", "pd" if gbit else "unified", plans[gbit], workload, seed
        ),
        _figures,
        context.goal(TTFT),
    )
    rows = (
        LinkRow(
            rated_gbit_per_s=gbit,
            figures=LinkFigures(**found.means(gbit)),
            hand_transfer_ms=hand_transfer_s(plans[gbit], found.means(gbit, (SENT,))[SENT].mean * 1e6) / MILLI,
            difference_to_fastest_ms=found.apart(gbit, RATED_GBIT[-1], TTFT),
            difference_to_unified_ms=found.apart(gbit, UNIFIED, TTFT),
        )
        for gbit in RATED_GBIT
    )
    return LinksAnswer(
        size=context.size(plan),
        runs=found.runs,
        requests=found.requests_a_run,
        unified_ttft_ms=found.means(UNIFIED, (TTFT,))[TTFT],
        rows=tuple(rows),
    )


def with_nics(plan: Plan, rated_gbit_per_s: float) -> Plan:
    """The plan with NICs of that speed at every GPU."""
    key = "pd_separation.transfer.rdma_gb_per_s"
    return changed_plan(plan, {key: rated_gbit_per_s / BITS}, f"{rated_gbit_per_s:g} Gb/s")


def hand_transfer_s(plan: Plan, wire_bytes: float) -> float:
    """Bytes over bandwidth, and what a transfer takes beside, between instances of different hosts of a rack."""
    config = plan.config
    network_s = nic_latency_s(config) + config.cluster.network.intra_rack_latency_us * MICRO
    return wire_bytes / plan.pair_bytes_per_s + network_s + config.pd_separation.transfer.setup_us * MICRO


def _figures(_: float, __: Workload, result: SystemResult) -> Figures:
    values_ms, moved = ttft_ms(result), result.transfer
    exposed_s = result.table["transfer_s"][result.measured]
    return {
        TTFT: float(values_ms.mean()),
        P99: float(np.percentile(values_ms, 99)),
        EXPOSED: float(exposed_s.mean()) / MILLI,
        SENT: float(result.table["transferred_bytes"][result.measured].mean()) / 1e6,
        BUSY: 0.0 if moved is None else moved.nic_out_utilisation,
    }


def links_sentence(study: LinksAnswer) -> str:
    """From which speed on nothing is gained, what the slowest costs, and where PD stands to unified serving."""
    slowest, fastest = study.rows[0], study.rows[-1]
    enough = next(row for row in study.rows if row is fastest or row.difference_to_fastest_ms.tie)
    against = {row.rated_gbit_per_s: row.difference_to_unified_ms for row in study.rows}
    better = [f"{gbit:g}" for gbit, apart in against.items() if apart.verdict == "lower"]
    worse = [f"{gbit:g}" for gbit, apart in against.items() if apart.verdict == "higher"]
    parts = [
        f"the {number(fastest.figures.sent_mb.mean)} MB of KV that a request sends take by hand "
        f"{number(slowest.hand_transfer_ms)} ms at {slowest.rated_gbit_per_s:g} Gb/s a GPU and "
        f"{number(fastest.hand_transfer_ms)} ms at {fastest.rated_gbit_per_s:g}; mean TTFT of PD at "
        f"{slowest.rated_gbit_per_s:g} Gb/s is {said_of(slowest.difference_to_fastest_ms)} against "
        f"{number(fastest.figures.ttft_mean_ms.mean)} ms at {fastest.rated_gbit_per_s:g}"
    ]
    parts.append(
        f"from {enough.rated_gbit_per_s:g} Gb/s on it ties with the fastest"
        if enough is not fastest
        else "no slower NIC is sure to tie with the fastest"
    )
    unified = f"unified's {plus_minus(study.unified_ttft_ms)} ms"
    parts.append(f"below {unified} at {', '.join(better)} Gb/s" if better else f"nowhere surely below {unified}")
    parts += [f"above at {', '.join(worse)}"] if worse else []
    return "; ".join(parts) + budget_spent(study.runs)


def _tables(study: LinksAnswer) -> tuple[Table, ...]:
    title = f"PD by its NICs, {sample_of(study, study.requests)}"
    columns = ("Gb/s", "TTFT ms", "to fastest", "to unified", "p99", "transfer", "by hand", "NICs")
    table = table_of(title, columns, names=False)
    for row in study.rows:
        table.add_row(
            f"{row.rated_gbit_per_s:g}",
            number(row.figures.ttft_mean_ms.mean),
            "" if row is study.rows[-1] else change(row.difference_to_fastest_ms),
            change(row.difference_to_unified_ms),
            number(row.figures.ttft_p99_ms.mean),
            number(row.figures.transfer_mean_ms.mean),
            number(row.hand_transfer_ms),
            percent(row.figures.nic_out_utilisation.mean),
        )
    return (table,)


def _picture(study: LinksAnswer) -> Figure:
    figure, (ttfts, moved) = drawn("PD by the speed of its NICs", study, 2, requests=study.requests)
    names = [f"{row.rated_gbit_per_s:g}" for row in study.rows]
    means, errors = bars_of([row.difference_to_fastest_ms.interval for row in study.rows])
    ttfts.errorbar(range(len(names)), means, yerr=errors, fmt="o-", capsize=3, color=PALETTE[0], label="simulated")
    found, widths = bars_of([row.figures.transfer_mean_ms for row in study.rows])
    moved.errorbar(range(len(names)), found, yerr=widths, fmt="o-", capsize=3, color=PALETTE[0])
    moved.plot(range(len(names)), [row.hand_transfer_ms for row in study.rows], "--", color=GREY, label="by hand")
    for axis, label in ((ttfts, f"mean TTFT beyond that at {names[-1]} Gb/s (ms)"), (moved, "transfer in TTFT (ms)")):
        named_places(axis.xaxis, names)
        axis.set_xlabel("NIC of a GPU (Gb/s)")
        axis.set_ylabel(label)
        plain_numbers(axis.yaxis)
    legend_below(figure, ttfts, moved)
    return figure


STUDY = StandaloneStudy(
    mode=PD,
    ask=interconnect,
    sentence=links_sentence,
    tables=_tables,
    figure=_picture,
    rows=lambda study: study.rows,
    smoke=("studies.replications=5", "studies.most_replications=8", "studies.budget_requests=12000"),
    at_load=True,
)
