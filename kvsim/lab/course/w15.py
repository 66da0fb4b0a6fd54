"""What do tiers below the GPU save, what survives a restart, and how large should a chunk be?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import bars
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean, share, times
from kvsim.record.labels import number, percent
from kvsim.study.pictures import PALETTE, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCUMENTS = 40
PREFIX_TOKENS = 3500
LINE = f"{VLLM_LLAMA} --num-gpu-blocks-override 2000"
"""A GPU that keeps eight of the documents."""
WORKLOAD = f"in=4000,out=64,prefix={PREFIX_TOKENS}:{DOCUMENTS}"
RATE_PER_S = 4.0
SETS = ("hardware.dram.capacity_gb=10", "cache.load_or_recompute=false")
"""Host memory for half of the documents; what a tier has is loaded, as LMCache does."""
TIERS = {"none": "[]", "DRAM": "[dram]", "DRAM, SSD": "[dram, ssd]"}
CHUNKS = (16, 256, 1024, 2048)
USUAL_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class TierRow:
    """One choice of tiers and chunks."""

    sweep: str
    tiers: str
    chunk_tokens: int
    restart: bool
    """Whether all memory was lost half-way; drives keep what they have."""
    gpu_hit_share: float
    tier_hit_share: float
    """The share of all prompt tokens that was loaded from a tier."""
    ttft_mean_ms: float


def ask(desk: Desk) -> Answer[TierRow]:
    """Questions on documents, of which the GPU keeps a fifth."""
    cases = [("tiers", tiers, USUAL_CHUNK, False) for tiers in TIERS]
    cases += [("restart", tiers, USUAL_CHUNK, True) for tiers in TIERS if tiers != "none"]
    cases += [("chunk", "DRAM, SSD", chunk, False) for chunk in CHUNKS]
    asked = [_asked(desk, tiers, chunk, restart) for _, tiers, chunk, restart in cases]
    rows = [_row(*case, served) for case, served in zip(cases, desk.serve(*asked), strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _asked(desk: Desk, tiers: str, chunk: int, restart: bool) -> Asked:
    requests = desk.requests(300)
    sets = (*SETS, f"pd_separation.tiers={TIERS[tiers]}", f"cache.chunk_tokens={chunk}")
    lost = (f"cache.restart_after_requests={requests // 2}",) if restart else ()
    return Asked(line=LINE, gpu=H100, workload=WORKLOAD, requests=requests, rate_per_s=RATE_PER_S, sets=(*sets, *lost))


def _row(sweep: str, tiers: str, chunk: int, restart: bool, served: Served) -> TierRow:
    return TierRow(
        sweep=sweep,
        tiers=tiers,
        chunk_tokens=chunk,
        restart=restart,
        gpu_hit_share=served.hit_share,
        tier_hit_share=served.loaded_share,
        ttft_mean_ms=mean(served.ttft_ms),
    )


def _one(rows: Sequence[TierRow], sweep: str, tiers: str) -> TierRow:
    return next(row for row in rows if (row.sweep, row.tiers) == (sweep, tiers))


def _sentence(rows: Sequence[TierRow]) -> str:
    none, memory = _one(rows, "tiers", "none"), _one(rows, "tiers", "DRAM")
    lost, kept = _one(rows, "restart", "DRAM"), _one(rows, "restart", "DRAM, SSD")
    both = _one(rows, "tiers", "DRAM, SSD")
    chunks = [row for row in rows if row.sweep == "chunk"]
    return (
        f"memory for half of the documents takes mean TTFT from {number(none.ttft_mean_ms)} to "
        f"{number(memory.ttft_mean_ms)} ms, drives below it to {number(both.ttft_mean_ms)}, as "
        f"{percent(memory.tier_hit_share)} and {percent(both.tier_hit_share)} of prompt tokens are loaded; after a "
        f"restart half-way it is {number(lost.ttft_mean_ms)} ms without drives and {number(kept.ttft_mean_ms)} with; "
        f"of chunks of {chunks[0].chunk_tokens} tokens {percent(chunks[0].tier_hit_share)} are loaded, of "
        f"{chunks[-1].chunk_tokens:,} {percent(chunks[-1].tier_hit_share)}, as a document's last chunk is never whole "
        f"(Llama-3.1-8B on one H100 that keeps 8 of {DOCUMENTS} documents of {PREFIX_TOKENS:,} tokens, "
        f"{RATE_PER_S:g} requests/s)"
    )


def _beside(rows: Sequence[TierRow]) -> tuple[Beside, ...]:
    none, memory = _one(rows, "tiers", "none"), _one(rows, "tiers", "DRAM, SSD")
    chunks = {row.chunk_tokens: row.ttft_mean_ms for row in rows if row.sweep == "chunk"}
    slower = chunks[USUAL_CHUNK] / min(chunks.values()) - 1
    return (
        Beside(
            what="delay with a cache below the GPU",
            theirs="3 to 10 times less",
            ours=f"mean TTFT {times(none.ttft_mean_ms, memory.ttft_mean_ms)} less",
            same_sign=memory.ttft_mean_ms < none.ttft_mean_ms,
            source="LMCache's README: vLLM with LMCache, multi-round question answering and retrieval",
            why_not_equal="a share of these prompts is new, and is computed at every hit rate",
        ),
        Beside(
            what=f"chunks of {USUAL_CHUNK} tokens",
            theirs="the default",
            ours=f"TTFT {percent(slower)} above the best",
            same_sign=slower < 0.1,
            source="LMCache's documentation, chunk_size",
            why_not_equal="what it costs to look a chunk up is not charged for here, which would be against small ones",
        ),
    )


def _figure(answer: Answer[TierRow]) -> Figure:
    figure, (ttft, chunks) = figure_of("Tiers below the GPU", "40 documents, of which the GPU keeps eight", 2)
    own = [row for row in answer.rows if row.sweep != "chunk"]
    heights = {row.tiers + (", restart" if row.restart else ""): row.ttft_mean_ms for row in own}
    bars(ttft, heights, "mean TTFT (ms)")
    hits = {f"{row.chunk_tokens:,}": 100 * row.tier_hit_share for row in answer.rows if row.sweep == "chunk"}
    bars(chunks, hits, "prompt tokens loaded (%)", colour=PALETTE[2])
    chunks.set_xlabel("tokens a chunk")
    return figure


LAB = Lab(
    title="Tiers, a restart half-way, and sizes of chunks",
    ask=ask,
    columns={
        "sweep": cell("sweep"),
        "tiers": cell("tiers"),
        "chunk": cell("chunk_tokens"),
        "restart": cell("restart"),
        "GPU hits": share("gpu_hit_share"),
        "loaded": share("tier_hit_share"),
        "TTFT mean ms": cell("ttft_mean_ms"),
    },
    figure=_figure,
)
