"""Which roof does a decode step hit, and how near to it is a measured one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.breakdown import operators
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.words import VLLM_LLAMA, cell
from kvsim.record.labels import number
from kvsim.spec.operator_weights import LM_HEAD
from kvsim.steptime import work
from kvsim.steptime.batch import Batch, Decodes
from kvsim.study.pictures import PALETTE, figure_of, legend_below, plain_powers
from kvsim.units import GB, MILLI, TERA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.plan.explained import Explainer
    from kvsim.steptime.explain import Explanation

GPU = "a100-80gb-sxm"
BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXT_TOKENS = 1024
WEIGHTS_GB, BANDWIDTH_GB_PER_S = 16.0, 2000.0
"""What everybody has in the head: 8 billion parameters of two bytes, an A100's memory."""
_PRODUCTS = (*work.PRODUCTS, LM_HEAD)


@dataclass(frozen=True, kw_only=True)
class RooflineRow:
    """A step in which so many sequences decode."""

    batch: int
    product_intensity: float
    """FLOPs a byte of the matrix products: nearly the batch, in 16 bits."""
    intensity: float
    """FLOPs a byte of the whole step, the KV that attention reads included."""
    limit_ms: float
    """Every operator at its own roof, by the data sheet."""
    rule_ms: float
    """16 GB over 2 TB/s."""
    measured_ms: float
    """By a profile that was fitted to measured kernels."""
    tokens_per_s: float
    reached_tflops: float


def ask(desk: Desk) -> Answer[RooflineRow]:
    """No request is served: steps are looked at by themselves."""
    explainer = explained(VLLM_LLAMA, GPU)
    rows = tuple(_row(explainer, batch) for batch in BATCHES)
    return Answer(rows=rows, sentence=_sentence(rows, explainer), beside=_beside())


def _row(explainer: Explainer, batch: int) -> RooflineRow:
    found = explainer.explain(Batch((Decodes(batch, CONTEXT_TOKENS),)))
    flops, num_bytes = _totals(found)
    product_flops, product_bytes = _totals(found, _PRODUCTS)
    return RooflineRow(
        batch=batch,
        product_intensity=product_flops / product_bytes,
        intensity=flops / num_bytes,
        limit_ms=found.limit_s / MILLI,
        rule_ms=WEIGHTS_GB / BANDWIDTH_GB_PER_S / MILLI,
        measured_ms=found.time_s / MILLI,
        tokens_per_s=batch / found.time_s,
        reached_tflops=flops / found.time_s / TERA,
    )


def _totals(found: Explanation, names: Sequence[str] | None = None) -> tuple[float, float]:
    own = [part for part in operators(found) if names is None or part.name in names]
    return sum(part.flops for part in own), sum(part.num_bytes for part in own)


def product_intensity(rows: int, inner: int, columns: int, bytes_per_value: float = 2.0) -> float:
    """FLOPs a byte of (rows x inner) times (inner x columns), each matrix read or written once."""
    values = rows * inner + inner * columns + rows * columns
    return 2 * rows * inner * columns / (bytes_per_value * values)


def ridge(explainer: Explainer) -> float:
    """FLOPs a byte from which on a GPU computes rather than reads."""
    gpu = explainer.instance.spec.gpu
    return gpu.peak_flops(explainer.instance.spec.weight_dtype) / gpu.hbm_bytes_per_s


def _sentence(rows: Sequence[RooflineRow], explainer: Explainer) -> str:
    first, last = rows[0], rows[-1]
    return (
        f"a decode step of one sequence has {number(first.intensity)} FLOPs a byte and of {last.batch} "
        f"{number(last.intensity)}, far below the {number(ridge(explainer))} at which an A100 computes as fast as it "
        f"reads: memory is the roof at every batch, and {last.batch} times the tokens take "
        f"{number(last.measured_ms / first.measured_ms)} times as long; 16 GB over 2 TB/s is "
        f"{number(first.rule_ms)} ms, the measured profile has {number(first.measured_ms)} ms "
        f"(Llama-3.1-8B in bf16 on one A100, {CONTEXT_TOKENS:,} tokens of context)"
    )


def _beside() -> tuple[Beside, ...]:
    source = "LLM Inference Unveiled (Yuan et al. 2024), table 1: Llama-2-7B's query projection, one sequence"
    return (
        Beside(
            what="FLOPs a byte of a 4,096 x 4,096 product, decode",
            theirs="1",
            ours=number(product_intensity(1, 4096, 4096)),
            same_sign=True,
            source=source,
        ),
        Beside(
            what="the same, a prompt of 2,048",
            theirs="1,024",
            ours=number(product_intensity(2048, 4096, 4096)),
            same_sign=True,
            source=source,
        ),
    )


def _figure(answer: Answer[RooflineRow]) -> Figure:
    gpu = explained(VLLM_LLAMA, GPU).instance.spec.gpu
    peak, bandwidth = gpu.peak_flops("bf16") / TERA, gpu.hbm_bytes_per_s / GB
    figure, (roof, times) = figure_of("A decode step under its roof", "Llama-3.1-8B, one A100, 1,024 of context", 2)
    intensities = [0.5, peak * TERA / bandwidth / GB, 500.0]
    roof.plot(intensities, [min(peak, each * bandwidth * GB / TERA) for each in intensities], color="0.3", label="roof")
    steps = [row.intensity for row in answer.rows]
    roof.plot(steps, [row.reached_tflops for row in answer.rows], "o", color=PALETTE[0], label="measured step")
    roof.set_xscale("log")
    roof.set_yscale("log")
    roof.set_xlabel("FLOPs a byte")
    roof.set_ylabel("TFLOPs a second")
    batches = [row.batch for row in answer.rows]
    for field, label, style in (
        ("measured_ms", "measured step", "o-"),
        ("limit_ms", "operators' limits", "s--"),
        ("rule_ms", "16 GB / 2 TB/s", ":"),
    ):
        colour = {"o-": PALETTE[0], "s--": PALETTE[1], ":": "0.3"}[style]
        times.plot(batches, [getattr(row, field) for row in answer.rows], style, color=colour, label=label)
    times.set_xscale("log", base=2)
    plain_powers(times.xaxis, batches[0], batches[-1], base=2)
    times.set_ylim(bottom=0)
    times.set_xlabel("sequences that decode")
    times.set_ylabel("ms a step")
    legend_below(figure, roof, times)
    return figure


LAB = Lab(
    title="A decode step: FLOPs a byte, and ms by rule, by limits, as measured",
    ask=ask,
    columns={
        "batch": cell("batch"),
        "products": cell("product_intensity"),
        "step": cell("intensity"),
        "rule ms": cell("rule_ms"),
        "limits ms": cell("limit_ms"),
        "measured ms": cell("measured_ms"),
        "tokens/s": cell("tokens_per_s"),
        "TFLOP/s": cell("reached_tflops"),
    },
    figure=_figure,
    simulated_only=True,
)
