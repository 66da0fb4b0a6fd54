"""Where do shared prefixes pay: in the order of a queue, in the choice among servers, and without sharing at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import bars
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, LLAMA, cell, mean, share, times
from kvsim.record.labels import number, percent
from kvsim.study.pictures import PALETTE, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERVER = f"sglang serve {LLAMA} --context-length 8192"
ORDERS = ("fcfs", "lpm", "dfs-weight")
ROUTERS = ("round_robin", "least_loaded", "sglang")
"""kvsim's names; ``sglang`` is its ``cache_aware``."""
SERVERS = 4
SHARED = {"yes": (1600, "1500:40"), "no": (1600, "")}
ROUTED = {"yes": (2200, "2048:48"), "no": (2200, "")}
"""Prompt tokens, and the length and number of their common heads."""


@dataclass(frozen=True, kw_only=True)
class SharingRow:
    """One rule, with prompts that share or do not."""

    decision: str
    rule: str
    sharing: str
    hit_share: float
    ttft_mean_ms: float
    requests_per_s: float


def ask(desk: Desk) -> Answer[SharingRow]:
    """Orders on one server with a full queue; routers before four with a steady stream."""
    cases = [("order", rule, sharing) for sharing in SHARED for rule in ORDERS]
    cases += [("router", rule, sharing) for sharing in ROUTED for rule in ROUTERS]
    asked = [_asked(desk, *case) for case in cases]
    rows = [_row(*case, served) for case, served in zip(cases, desk.serve(*asked), strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _asked(desk: Desk, decision: str, rule: str, sharing: str) -> Asked:
    tokens, prefix = (SHARED if decision == "order" else ROUTED)[sharing]
    workload = f"in={tokens},out=64" + (f",prefix={prefix}" if prefix else "")
    if decision == "order":
        line = f"{SERVER} --max-total-tokens 40000 --schedule-policy {rule}"
        return Asked(line=line, gpu=H100, workload=workload, requests=desk.requests(200))
    return Asked(
        line=f"{SERVER} --max-total-tokens 30000",
        gpu=H100,
        workload=workload,
        requests=desk.requests(400),
        rate_per_s=40.0,
        instances=SERVERS,
        sets=(f"routing.prefill={rule}",),
    )


def _row(decision: str, rule: str, sharing: str, served: Served) -> SharingRow:
    return SharingRow(
        decision=decision,
        rule=rule,
        sharing=sharing,
        hit_share=served.hit_share,
        ttft_mean_ms=mean(served.ttft_ms),
        requests_per_s=served.requests_per_s,
    )


def _one(rows: Sequence[SharingRow], rule: str, sharing: str) -> SharingRow:
    return next(row for row in rows if (row.rule, row.sharing) == (rule, sharing))


def _sentence(rows: Sequence[SharingRow]) -> str:
    orders = ", ".join(f"{rule} {number(_one(rows, rule, 'yes').requests_per_s)}" for rule in ORDERS)
    alone = {number(_one(rows, rule, "no").requests_per_s) for rule in ORDERS}
    blind, aware = _one(rows, "round_robin", "yes"), _one(rows, "sglang", "yes")
    without = _one(rows, "round_robin", "no"), _one(rows, "sglang", "no")
    return (
        f"where 40 heads are shared one server's queue serves {orders} requests/s by its order, and where nothing is "
        f"{' or '.join(sorted(alone))} by any; before {SERVERS} servers a cache-aware router hits "
        f"{percent(aware.hit_share)} instead of round robin's {percent(blind.hit_share)} and has a mean TTFT of "
        f"{number(aware.ttft_mean_ms)} instead of {number(blind.ttft_mean_ms)} ms, without sharing "
        f"{number(without[1].ttft_mean_ms)} and {number(without[0].ttft_mean_ms)} (Llama-3.1-8B, an H100 each)"
    )


def _beside(rows: Sequence[SharingRow]) -> tuple[Beside, ...]:
    blind, aware = _one(rows, "round_robin", "yes"), _one(rows, "sglang", "yes")
    return (
        Beside(
            what="hits with a cache-aware router",
            theirs="3.8 times those of round robin",
            ours=times(aware.hit_share, blind.hit_share),
            same_sign=aware.hit_share > blind.hit_share,
            source="SGLang v0.4's announcement (LMSYS, December 2024): long shared prefixes, eight workers",
            why_not_equal="there twice as many servers, over which round robin scatters prefixes thinner",
        ),
    )


def _figure(answer: Answer[SharingRow]) -> Figure:
    figure, axes = figure_of("Orders and routers", "Llama-3.1-8B; left: one queue, right: four servers at 40/s", 2)
    for axis, decision, field, label, colour in (
        (axes[0], "order", "requests_per_s", "requests/s", PALETTE[0]),
        (axes[1], "router", "ttft_mean_ms", "mean TTFT (ms)", PALETTE[1]),
    ):
        own = [row for row in answer.rows if row.decision == decision]
        ends = {"yes": "shared", "no": "nothing shared"}
        bars(axis, {f"{row.rule}, {ends[row.sharing]}": getattr(row, field) for row in own}, label, colour=colour)
        axis.tick_params(axis="x", labelsize=7)
    return figure


LAB = Lab(
    title="Orders of one queue and routers before four servers",
    ask=ask,
    columns={
        "decision": cell("decision"),
        "rule": cell("rule"),
        "shared": cell("sharing"),
        "hits": share("hit_share"),
        "TTFT mean ms": cell("ttft_mean_ms"),
        "requests/s": cell("requests_per_s"),
    },
    figure=_figure,
)
