"""How do TTFT and ITL grow with the request rate, by vLLM's rules and by SGLang's?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, LLAMA, VLLM_LLAMA, cell, mean, quantile, times
from kvsim.record.labels import number
from kvsim.study.pictures import PALETTE, figure_of, legend_below, named_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {"vLLM": VLLM_LLAMA, "SGLang": f"sglang serve {LLAMA} --context-length 8192"}
RATES_PER_S: tuple[float | None, ...] = (1.0, 4.0, 10.0, None)
"""``None``: all at once."""
WORKLOAD = "in=1024,out=128"


@dataclass(frozen=True, kw_only=True)
class RateRow:
    """One server at one rate."""

    engine: str
    rate: str
    ttft_mean_ms: float
    ttft_p99_ms: float
    itl_mean_ms: float
    itl_p99_ms: float
    itl_max_ms: float
    requests_per_s: float
    output_tokens_per_s: float


def ask(desk: Desk) -> Answer[RateRow]:
    """Both servers meet the same requests at every rate."""
    asked = [
        Asked(line=line, gpu=H100, workload=WORKLOAD, requests=desk.requests(100), rate_per_s=rate)
        for line in LINES.values()
        for rate in RATES_PER_S
    ]
    engines = [engine for engine in LINES for _ in RATES_PER_S]
    rows = tuple(_row(engine, served) for engine, served in zip(engines, desk.serve(*asked), strict=True))
    return Answer(rows=rows, sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _row(engine: str, served: Served) -> RateRow:
    return RateRow(
        engine=engine,
        rate=served.asked.rate_word,
        ttft_mean_ms=mean(served.ttft_ms),
        ttft_p99_ms=quantile(served.ttft_ms, 0.99),
        itl_mean_ms=served.itl_ms.mean or 0.0,
        itl_p99_ms=served.itl_ms.p99 or 0.0,
        itl_max_ms=served.itl_ms.max or 0.0,
        requests_per_s=served.requests_per_s,
        output_tokens_per_s=served.output_tokens_per_s,
    )


def _ends(rows: tuple[RateRow, ...], engine: str) -> tuple[RateRow, RateRow]:
    own = [row for row in rows if row.engine == engine]
    return own[0], own[-1]


def _sentence(rows: tuple[RateRow, ...]) -> str:
    parts = []
    for engine in LINES:
        first, last = _ends(rows, engine)
        parts.append(
            f"{engine}'s mean TTFT grows from {number(first.ttft_mean_ms)} ms at 1 request/s to "
            f"{number(last.ttft_mean_ms)} ms with all at once, its mean ITL from {number(first.itl_mean_ms)} to "
            f"{number(last.itl_mean_ms)} ms"
        )
    return (
        f"{'; '.join(parts)}: a queue is what TTFT pays, fuller steps and prompts in or between them what ITL pays, "
        f"and throughput is what is bought (Llama-3.1-8B on one H100, 1,024 tokens in, 128 out)"
    )


def _beside(rows: tuple[RateRow, ...]) -> tuple[Beside, ...]:
    first, last = _ends(rows, "vLLM")
    source = "inference-perf's published run, vLLM 0.11 with Llama-3.1-8B on one H100, about 204 tokens in, 62 out"
    other = "its prompts are a fifth as long, and its last rate lies just above what the server can do"
    return (
        Beside(
            what="mean TTFT, lowest rate to overload",
            theirs="31 ms at 1/s to 2,617 ms at 123/s: 84 times",
            ours=times(last.ttft_mean_ms, first.ttft_mean_ms),
            same_sign=last.ttft_mean_ms > first.ttft_mean_ms,
            source=source,
            why_not_equal=other,
        ),
        Beside(
            what="p99 of ITL, the same rates",
            theirs="7.4 to 34.8 ms: 4.7 times",
            ours=times(last.itl_p99_ms, first.itl_p99_ms),
            same_sign=last.itl_p99_ms > first.itl_p99_ms,
            source=source,
            why_not_equal=other,
        ),
    )


def _figure(answer: Answer[RateRow]) -> Figure:
    figure, axes = figure_of("TTFT and ITL against the rate", "Llama-3.1-8B on one H100, 1,024 in, 128 out", 2)
    for engine, colour in zip(LINES, PALETTE, strict=False):
        own = [row for row in answer.rows if row.engine == engine]
        places = range(len(own))
        axes[0].plot(places, [row.ttft_mean_ms for row in own], "o-", color=colour, label=f"{engine}, mean")
        axes[0].plot(places, [row.ttft_p99_ms for row in own], "s--", color=colour, label=f"{engine}, p99")
        axes[1].plot(places, [row.itl_mean_ms for row in own], "o-", color=colour)
        axes[1].plot(places, [row.itl_p99_ms for row in own], "s--", color=colour)
    for axis, name in zip(axes, ("TTFT (ms)", "ITL (ms)"), strict=True):
        axis.set_yscale("log")
        axis.set_ylabel(name)
        axis.set_xlabel("requests/s")
        named_places(axis.xaxis, ["1", "4", "10", "inf"])
    legend_below(figure, axes[0])
    return figure


LAB = Lab(
    title="Latency by request rate, ms",
    ask=ask,
    columns={
        "engine": cell("engine"),
        "rate": cell("rate"),
        "TTFT mean": cell("ttft_mean_ms"),
        "TTFT p99": cell("ttft_p99_ms"),
        "ITL mean": cell("itl_mean_ms"),
        "ITL p99": cell("itl_p99_ms"),
        "ITL max": cell("itl_max_ms"),
        "requests/s": cell("requests_per_s"),
        "tokens/s": cell("output_tokens_per_s"),
    },
    figure=_figure,
)
