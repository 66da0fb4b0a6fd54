"""What does automatic prefix caching save as prompts share more, and how many blocks does an FP8 KV cache add?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import bars, curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean, quantile, share
from kvsim.record.labels import number, percent
from kvsim.study.pictures import PALETTE, figure_of, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPT_TOKENS = 2304
PREFIXES = (0, 256, 512, 1024, 2048)
"""Tokens at the head of prompts, one of four texts."""
SWITCHES = {"on": "--enable-prefix-caching", "off": "--no-enable-prefix-caching"}
KV_TYPES = {"bf16": "--kv-cache-dtype auto", "fp8": "--kv-cache-dtype fp8"}
RATE_PER_S = 8.0
BLOCK_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class CachingRow:
    """One server with one length of what is shared."""

    kv_type: str
    caching: str
    prefix_tokens: int
    hit_share: float
    """A share of all prompt tokens."""
    ttft_mean_ms: float
    ttft_p99_ms: float
    output_tokens_per_s: float
    kv_blocks: int | None


def ask(desk: Desk) -> Answer[CachingRow]:
    """Caching on and off meet the same prompts; FP8 has the longest prefix alone."""
    cases = [("bf16", switch, prefix) for switch in SWITCHES for prefix in PREFIXES] + [("fp8", "on", PREFIXES[-1])]
    asked = [_asked(desk, *case) for case in cases]
    rows = [_row(*case, served) for case, served in zip(cases, desk.serve(*asked), strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _asked(desk: Desk, kv_type: str, switch: str, prefix: int) -> Asked:
    return Asked(
        line=f"{VLLM_LLAMA} {SWITCHES[switch]} {KV_TYPES[kv_type]}",
        gpu=H100,
        workload=f"in={PROMPT_TOKENS},out=64" + (f",prefix={prefix}:4" if prefix else ""),
        requests=desk.requests(100),
        rate_per_s=RATE_PER_S,
    )


def _row(kv_type: str, switch: str, prefix: int, served: Served) -> CachingRow:
    return CachingRow(
        kv_type=kv_type,
        caching=switch,
        prefix_tokens=prefix,
        hit_share=served.hit_share,
        ttft_mean_ms=mean(served.ttft_ms),
        ttft_p99_ms=quantile(served.ttft_ms, 0.99),
        output_tokens_per_s=served.output_tokens_per_s,
        kv_blocks=None if served.kv_tokens is None else served.kv_tokens // BLOCK_TOKENS,
    )


def _one(rows: Sequence[CachingRow], kv_type: str, switch: str, prefix: int) -> CachingRow:
    return next(row for row in rows if (row.kv_type, row.caching, row.prefix_tokens) == (kv_type, switch, prefix))


def _sentence(rows: Sequence[CachingRow]) -> str:
    longest = PREFIXES[-1]
    on, off = _one(rows, "bf16", "on", longest), _one(rows, "bf16", "off", longest)
    nothing = _one(rows, "bf16", "on", 0), _one(rows, "bf16", "off", 0)
    narrow = _one(rows, "fp8", "on", longest)
    blocks = (
        f"; an FP8 KV cache has {number(narrow.kv_blocks / on.kv_blocks)} times the blocks"
        if narrow.kv_blocks and on.kv_blocks
        else ""
    )
    return (
        f"where {longest:,} of {PROMPT_TOKENS:,} prompt tokens are shared, caching hits {percent(on.hit_share)} and "
        f"takes mean TTFT from {number(off.ttft_mean_ms)} to {number(on.ttft_mean_ms)} ms; where nothing is, it is "
        f"{number(nothing[1].ttft_mean_ms)} ms without and {number(nothing[0].ttft_mean_ms)} with{blocks} "
        f"(Llama-3.1-8B on one H100, {RATE_PER_S:g} requests/s of four texts)"
    )


def _beside(rows: Sequence[CachingRow]) -> tuple[Beside, ...]:
    on, off = _one(rows, "bf16", "on", 0), _one(rows, "bf16", "off", 0)
    lost = 1 - on.output_tokens_per_s / off.output_tokens_per_s
    wide, narrow = _one(rows, "bf16", "on", PREFIXES[-1]).kv_blocks, _one(rows, "fp8", "on", PREFIXES[-1]).kv_blocks
    return (
        Beside(
            what="throughput lost where nothing is hit",
            theirs="below 1%",
            ours=percent(lost),
            same_sign=lost < 0.01,
            source="vLLM's announcement of V1, January 2025, its prefix caching at a hit rate of 0%",
            why_not_equal="hashing is not charged for here: exactly nothing is lost",
        ),
        Beside(
            what="KV blocks with FP8, of those with 16 bits",
            theirs="about 2 times",
            ours=f"{number(narrow / wide)} times" if narrow and wide else "-",
            same_sign=bool(narrow and wide and narrow > 1.9 * wide),
            source="vLLM's documentation of the quantised KV cache",
        ),
    )


def _figure(answer: Answer[CachingRow]) -> Figure:
    figure, (ttft, blocks) = figure_of("Prefix caching", "Llama-3.1-8B on one H100, prompts of 2,304, 8/s", 2)
    own = [row for row in answer.rows if row.kv_type == "bf16"]
    curves(ttft, own, "caching", "prefix_tokens", "ttft_mean_ms", ("tokens shared", "mean TTFT (ms)"))
    longest = [row for row in answer.rows if row.caching == "on" and row.prefix_tokens == PREFIXES[-1]]
    bars(blocks, {row.kv_type: float(row.kv_blocks or 0) for row in longest}, "KV blocks", colour=PALETTE[2])
    legend_below(figure, ttft)
    return figure


LAB = Lab(
    title="Prefix caching by what prompts share; FP8 KV",
    ask=ask,
    columns={
        "KV": cell("kv_type"),
        "caching": cell("caching"),
        "shared": cell("prefix_tokens"),
        "hits": share("hit_share"),
        "TTFT mean ms": cell("ttft_mean_ms"),
        "TTFT p99 ms": cell("ttft_p99_ms"),
        "tokens/s": cell("output_tokens_per_s"),
        "blocks": cell("kv_blocks"),
    },
    figure=_figure,
)
