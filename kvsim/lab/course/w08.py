"""How smooth is the stream of tokens for each budget of a chunked prefill, and what does TTFT pay?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import over_time
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean
from kvsim.record.labels import number
from kvsim.study.pictures import PALETTE, figure_of, legend_below, named_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.record.binned import Floats

BUDGETS = (256, 512, 1024, 2048, 4096)
UNCUT = "--no-enable-chunked-prefill"
WORKLOAD = "in=4096,out=128"
RATE_PER_S = 3.0
BIN_S = 0.5


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    """One budget of tokens a step."""

    budget: str
    itl_p50_ms: float
    itl_p99_ms: float
    itl_max_ms: float
    p99_over_p50: float
    ttft_mean_ms: float
    output_tokens_per_s: float


def ask(desk: Desk) -> Answer[BudgetRow]:
    """Every budget meets the same long prompts."""
    words = {f"{budget:,}": f"--max-num-batched-tokens {budget}" for budget in BUDGETS} | {"whole prompts": UNCUT}
    asked = [
        Asked(
            line=f"{VLLM_LLAMA} {flag}",
            gpu=H100,
            workload=WORKLOAD,
            requests=desk.requests(100),
            rate_per_s=RATE_PER_S,
            keeps_steps=True,
        )
        for flag in words.values()
    ]
    found = dict(zip(words, desk.serve(*asked), strict=True))
    rows = [_row(name, served) for name, served in found.items()]
    shown = {name: longest_gaps(served.gaps_s) for name, served in found.items() if served.gaps_s is not None}
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), series=shown, asked=tuple(asked))


def _row(name: str, served: Served) -> BudgetRow:
    itl = served.itl_ms
    p50, p99 = itl.p50 or 0.0, itl.p99 or 0.0
    return BudgetRow(
        budget=name,
        itl_p50_ms=p50,
        itl_p99_ms=p99,
        itl_max_ms=itl.max or 0.0,
        p99_over_p50=p99 / p50,
        ttft_mean_ms=mean(served.ttft_ms),
        output_tokens_per_s=served.output_tokens_per_s,
    )


def longest_gaps(gaps_s: Floats) -> tuple[Sequence[float], Sequence[float]]:
    """The ends of half seconds, and the longest time between two tokens, in ms, of those that came in each."""
    place = (gaps_s[:, 0] / BIN_S).astype(np.int64)
    longest = np.zeros(place.max() + 1)
    np.maximum.at(longest, place, gaps_s[:, 1])
    return ((np.arange(len(longest)) + 1) * BIN_S).tolist(), (longest * 1e3).tolist()


def _sentence(rows: Sequence[BudgetRow]) -> str:
    small, whole = rows[0], rows[-1]
    return (
        f"with {small.budget} tokens a step p99 of ITL is {number(small.p99_over_p50)} times its median, with whole "
        f"prompts {number(whole.p99_over_p50)} times ({number(small.itl_p99_ms)} and {number(whole.itl_p99_ms)} ms); "
        f"mean TTFT pays for it with {number(small.ttft_mean_ms)} instead of {number(whole.ttft_mean_ms)} ms "
        f"(Llama-3.1-8B on one H100, prompts of 4,096 tokens at {RATE_PER_S:g} requests/s)"
    )


def _beside(rows: Sequence[BudgetRow]) -> tuple[Beside, ...]:
    by_name = {row.budget: row for row in rows}
    small, whole = by_name["512"], by_name["whole prompts"]
    return (
        Beside(
            what="what small budgets buy",
            theirs="2.6 times the requests within a limit on p99 of ITL",
            ours=f"p99 of ITL {number(whole.itl_p99_ms / small.itl_p99_ms)} times lower with 512 tokens a step",
            same_sign=small.itl_p99_ms < whole.itl_p99_ms,
            source="Sarathi-Serve (Agrawal et al. 2024, OSDI), abstract: Mistral-7B on one A100",
            why_not_equal="there the rate is raised up to a limit, here it is the same for all",
        ),
    )


def _figure(answer: Answer[BudgetRow]) -> Figure:
    figure, (tails, series) = figure_of("ITL by token budget", "Llama-3.1-8B on one H100, prompts of 4,096, 3/s", 2)
    places = range(len(answer.rows))
    for field, label, colour in (("itl_p50_ms", "p50", PALETTE[0]), ("itl_p99_ms", "p99", PALETTE[1])):
        tails.plot(places, [getattr(row, field) for row in answer.rows], "o-", color=colour, label=f"ITL, {label}")
    tails.set_yscale("log")
    tails.set_ylabel("ms")
    named_places(tails.xaxis, [row.budget for row in answer.rows])
    shown = {
        f"{name} a step" if name != "whole prompts" else name: values
        for name, values in dict(answer.series).items()
        if name in ("256", "1,024", "whole prompts")
    }
    over_time(series, shown, "longest ITL of half a second (ms)", first=2)
    legend_below(figure, tails, series)
    return figure


LAB = Lab(
    title="ITL and TTFT by token budget, ms",
    ask=ask,
    columns={
        "tokens a step": cell("budget"),
        "ITL p50": cell("itl_p50_ms"),
        "ITL p99": cell("itl_p99_ms"),
        "ITL max": cell("itl_max_ms"),
        "p99/p50": cell("p99_over_p50"),
        "TTFT mean": cell("ttft_mean_ms"),
        "tokens/s": cell("output_tokens_per_s"),
    },
    figure=_figure,
)
