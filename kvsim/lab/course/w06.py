"""What does a radix cache give few-shot prompts, and how much of it depends on the order of the queue?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import bars
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, LLAMA, cell, mean, share, times
from kvsim.policy.scheduling.lpm import MOST_WAITING
from kvsim.record.labels import number, percent
from kvsim.study.pictures import PALETTE, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = f"sglang serve {LLAMA} --context-length 8192 --max-total-tokens 16000"
"""A cache that holds the examples of ten tasks."""
TASKS = 40
WORKLOAD = f"in=1600,out=16,prefix=1500:{TASKS}"
"""1,500 tokens of examples, one of 40 tasks, and a question of 100."""
POLICIES = {
    "off": "--disable-radix-cache",
    "fcfs": "--schedule-policy fcfs",
    "lpm": "--schedule-policy lpm",
}


@dataclass(frozen=True, kw_only=True)
class RadixRow:
    """One cache and one order."""

    radix: str
    order: str
    hit_share: float
    ttft_mean_ms: float
    requests_per_s: float


def ask(desk: Desk) -> Answer[RadixRow]:
    """All questions come at once, in an order without a pattern."""
    asked = [
        Asked(line=f"{LINE} {words}", gpu=H100, workload=WORKLOAD, requests=desk.requests(200))
        for words in POLICIES.values()
    ]
    rows = [_row(name, served) for name, served in zip(POLICIES, desk.serve(*asked), strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows, desk), beside=_beside(rows), asked=tuple(asked))


def _row(name: str, served: Served) -> RadixRow:
    return RadixRow(
        radix="off" if name == "off" else "on",
        order="fcfs" if name == "off" else name,
        hit_share=served.hit_share,
        ttft_mean_ms=mean(served.ttft_ms),
        requests_per_s=served.requests_per_s,
    )


def most_hits(questions: int) -> float:
    """The share of prompt tokens that can be hit in the mean: each task that is drawn is computed once."""
    drawn = TASKS * (1 - (1 - 1 / TASKS) ** questions)
    return (questions - drawn) * 1500 / (questions * 1600)


def _sentence(rows: Sequence[RadixRow], desk: Desk) -> str:
    off, fcfs, lpm = rows
    return (
        f"a radix cache that holds a quarter of the tasks hits {percent(fcfs.hit_share)} of prompt tokens first come "
        f"first served, {percent(lpm.hit_share)} with the longest cached prefix first once no more than {MOST_WAITING} "
        f"wait ({percent(most_hits(desk.requests(200)))} could be hit in the mean): {number(off.requests_per_s)}, "
        f"{number(fcfs.requests_per_s)} and {number(lpm.requests_per_s)} requests/s without, with, and in order "
        f"(Llama-3.1-8B on one H100, {TASKS} tasks of 1,500 tokens of examples, all questions at once, 16,000 tokens "
        "of KV)"
    )


def _beside(rows: Sequence[RadixRow]) -> tuple[Beside, ...]:
    off, fcfs, lpm = rows
    source = "SGLang (Zheng et al. 2024, NeurIPS), abstract and section 6"
    return (
        Beside(
            what="throughput with a radix cache and its order",
            theirs="up to 6.4 times other systems",
            ours=times(lpm.requests_per_s, off.requests_per_s),
            same_sign=lpm.requests_per_s > fcfs.requests_per_s > off.requests_per_s,
            source=source,
            why_not_equal="there against other engines, with tasks in which more is shared and the cache is larger",
        ),
        Beside(
            what="hits",
            theirs="50% to 99%",
            ours=percent(lpm.hit_share),
            same_sign=lpm.hit_share > fcfs.hit_share,
            source=source,
            why_not_equal="there against other engines, with tasks in which more is shared and the cache is larger",
        ),
    )


def _figure(answer: Answer[RadixRow]) -> Figure:
    figure, (hits, served) = figure_of("A radix cache for few-shot prompts", "40 tasks, room for ten", 2)
    names = ["off", "fcfs", "lpm"]
    found = dict(zip(names, answer.rows, strict=True))
    bars(hits, {name: 100 * row.hit_share for name, row in found.items()}, "prompt tokens hit (%)")
    bars(served, {name: row.requests_per_s for name, row in found.items()}, "requests/s", colour=PALETTE[2])
    return figure


LAB = Lab(
    title="Radix cache and the order of the queue",
    ask=ask,
    columns={
        "radix": cell("radix"),
        "order": cell("order"),
        "hits": share("hit_share"),
        "TTFT mean ms": cell("ttft_mean_ms"),
        "requests/s": cell("requests_per_s"),
    },
    figure=_figure,
)
