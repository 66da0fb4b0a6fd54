"""How KV should move: the transfer strategies side by side at the run's rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from kvsim.config.derived import nic_bytes_per_s_per_gpu
from kvsim.config.schema import Config
from kvsim.record.labels import number, percent
from kvsim.record.plain import OMITTED, spliced
from kvsim.record.result import SystemResult
from kvsim.study.answer import DrivenAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext, changed_plan
from kvsim.study.intervals import Interval
from kvsim.study.measures import LOAD, own_load, ttft_ms
from kvsim.study.pictures import BLUE, GREY, ORANGE, bars_of, drawn, plain_numbers
from kvsim.study.replication import Apart
from kvsim.study.words import at_rate, budget_spent, change, overloaded_there, said_of, table_of
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRANSFER = "pd_separation.transfer"
CONFIGURED = "as configured"
FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


Changes = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class TransferFigures:
    """What is measured of a way to move KV."""

    ttft_mean_ms: Interval
    ttft_p50_ms: Interval
    ttft_p99_ms: Interval
    transfer_mean_ms: Interval
    """As TTFT sees it."""
    hidden_share: Interval
    nic_out_utilisation: Interval
    load: Interval | None = field(default=None, metadata=OMITTED)
    """Only where the way is the configured one."""


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """A way to move KV, beside the configured one."""

    name: str
    changes: Changes
    """Values below ``pd_separation.transfer``."""
    figures: TransferFigures = field(metadata=spliced())
    ttft_mean_difference_ms: Apart
    runs: int
    tie: bool


@dataclass(frozen=True, kw_only=True)
class TransferAnswer(DrivenAnswer):
    """Every way; the configured one first."""

    rows: tuple[TransferRow, ...]


def transfer_variants(config: Config) -> dict[str, Changes]:
    """What is compared: a name and the values it changes, keyed below ``pd_separation.transfer``."""
    nic_gb_per_s = nic_bytes_per_s_per_gpu(config) / config.pd_separation.transfer.rdma_efficiency / GB
    push = {"strategy": "push", "pipelining": True, "layerwise": False, "decode_start": "last_chunk"}
    return {
        CONFIGURED: {},
        "push, by chunk": push,
        "push, by layer": {**push, "layerwise": True},
        "push, no overlap": {**push, "pipelining": False},
        "pull": {**push, "strategy": "pull"},
        "pull on demand": {**push, "strategy": "pull_on_demand"},
        "first chunk (optimistic)": {**push, "decode_start": "first_chunk"},
        "fifo": {"contention": "fifo"},
        "no contention": {"contention": "none"},
        "compressed 2 x": {"compression_ratio": 2 * config.pd_separation.transfer.compression_ratio},
        "NIC x 1/4": {"rdma_gb_per_s": nic_gb_per_s / 4},
    }


def transfer_study(context: StudyContext) -> TransferAnswer:
    """The report's ``studies.transfer``: TTFT of each variant, and its paired difference to what is configured.

    ``loads``: what share of its maximum rate the configured one was offered in these runs.
    """
    plan = context.sample
    variants = transfer_variants(plan.config)
    plans = {
        name: changed_plan(plan, {f"{TRANSFER}.{key}": value for key, value in values.items()}, name)
        for name, values in variants.items()
    }
    rate_per_s = context.sample_requests_per_s
    num_requests = context.requests_at(plan, rate_per_s, FACTOR)
    found = context.replicate(
        [name for name in plans if name == CONFIGURED or plans[name].config != plan.config],
        lambda *_: CONFIGURED,
        lambda seed: context.workload(rate_per_s, num_requests, seed),
        lambda name, workload, seed: context.case(name, "pd", plans[name], workload, seed),
        lambda name, workload, result: {
            **_figures(result),
            **(own_load(plan, workload, result) if name == CONFIGURED else {}),
        },
        context.goal("ttft_mean_ms"),
    )
    rows = []
    for name in plans:
        ran = name if name in found.figures else CONFIGURED
        apart = found.apart(ran, CONFIGURED, "ttft_mean_ms")
        row = TransferRow(
            name=name,
            changes=variants[name],
            figures=TransferFigures(**found.means(ran)),
            ttft_mean_difference_ms=apart,
            runs=len(found.figures[ran]),
            tie=name != CONFIGURED and apart.tie,
        )
        rows.append(row)
    return TransferAnswer(
        size=context.size(plan),
        runs=found.runs,
        requests=found.requests_a_run,
        requests_per_s=rate_per_s,
        loads={"pd": found.means(CONFIGURED, (LOAD,))[LOAD].mean},
        rows=tuple(rows),
    )


def _figures(result: SystemResult) -> dict[str, float]:
    ttft, moved = ttft_ms(result), result.transfer
    assert moved is not None
    return {
        "ttft_mean_ms": float(ttft.mean()),
        "ttft_p50_ms": float(np.percentile(ttft, 50)),
        "ttft_p99_ms": float(np.percentile(ttft, 99)),
        "transfer_mean_ms": float(result.table["transfer_s"][result.measured].mean()) * 1000,
        "hidden_share": moved.hidden_share if moved.transfers else 0.0,
        "nic_out_utilisation": moved.nic_out_utilisation,
    }


def transfer_sentence(study: TransferAnswer) -> str:
    """What changes mean TTFT, and what does not."""
    rows = study.rows[1:]
    real = [row for row in rows if not row.tie]
    if not real:
        return f"mean TTFT: every way to move KV ties with the configured one{overloaded_there(study)}"
    said = ", ".join(f"{row.name} {said_of(row.ttft_mean_difference_ms)}" for row in real)
    others = "; the others tie" if len(real) < len(rows) else ""
    return (
        f"mean TTFT against the configured transfer: {said}{others}{overloaded_there(study)}{budget_spent(study.runs)}"
    )


def _table(study: TransferAnswer) -> Table:
    columns = ("ms", "TTFT", "difference", "p99", "transfer", "hidden", "NIC")
    table = table_of(f"Ways to move KV {at_rate(study)}", columns)
    for row in study.rows:
        table.add_row(
            row.name,
            number(row.figures.ttft_mean_ms.mean),
            "" if row.name == CONFIGURED else change(row.ttft_mean_difference_ms),
            number(row.figures.ttft_p99_ms.mean),
            number(row.figures.transfer_mean_ms.mean),
            percent(row.figures.hidden_share.mean),
            percent(row.figures.nic_out_utilisation.mean),
        )
    return table


def _picture(study: TransferAnswer) -> Figure:
    figure, (axis,) = drawn("Mean TTFT by the way KV moves, against the configured one", study, requests=study.requests)
    rows = study.rows[:0:-1]
    apart, errors = bars_of([row.ttft_mean_difference_ms.interval for row in rows])
    verdicts = [row.ttft_mean_difference_ms.verdict for row in rows]
    colours = [BLUE if verdict in ("lower", "higher") else GREY for verdict in verdicts]
    names = [
        row.name if verdict in ("lower", "higher") else f"{row.name} ({verdict})"
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    axis.barh(names, apart, xerr=errors, color=colours, capsize=2, ecolor=ORANGE)
    axis.axvline(0, color="0.3", linewidth=0.8)
    configured = study.rows[0].figures.ttft_mean_ms.mean
    axis.set_xlabel(f"difference in mean TTFT (ms); configured: {configured:,.0f} ms")
    plain_numbers(axis.xaxis)
    return figure


STUDY = Study(
    name="transfer",
    places={"pd": 1},
    systems=frozenset({"pd"}),
    ask=transfer_study,
    sentence=transfer_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
