"""What does an offline batch's time go to, and how far is the GPU used?"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.export.perfetto import Event, named, slice_of, write_trace
from kvsim.lab.backend import Asked, Served
from kvsim.lab.breakdown import ALLREDUCE, ATTENTION, GROUPS, MLP, OTHER, Span, spans_of
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.simulated import simulation_of
from kvsim.lab.words import H100, cell, share
from kvsim.record.frames import detail_of
from kvsim.record.labels import number, percent
from kvsim.report.atomic import replacing
from kvsim.study.pictures import PALETTE, figure_of, legend_below, named_places

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.plan.explained import Explainer

LINE = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-model-len 4096"
BY_OPERATOR = ("steptime.method=roofline",)
"""Step times by arithmetic: they have a time for every operator, which a formula of whole steps has not."""
BATCHES = (8, 32, 128)
WORKLOAD = "in=1024,out=128"
_PARTS = 3
"""Number of the trace's process with what steps go to; those of requests, links and instances are others."""


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """One batch, from its first step to its last."""

    batch: int
    seconds: float
    output_tokens_per_s: float
    compute_share: float
    """FLOPs of the GPUs' peak."""
    memory_share: float
    """Bytes of their memories' bandwidth."""
    attention_share: float
    mlp_share: float
    allreduce_share: float
    other_share: float
    """Output projection, norms, sampling, the host."""


def ask(desk: Desk) -> Answer[BatchRow]:
    """Each batch comes at once, to a server that does nothing else."""
    asked = [_asked(batch) for batch in BATCHES]
    explainer = explained(LINE, H100, *BY_OPERATOR)
    found = [(served, spans_of(served, explainer)) for served in desk.serve(*asked)]
    rows = tuple(_row(served, spans, explainer) for served, spans in found)
    return Answer(rows=rows, sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _asked(batch: int) -> Asked:
    return Asked(line=LINE, gpu=H100, workload=WORKLOAD, requests=batch, sets=BY_OPERATOR, keeps_steps=True)


def _row(served: Served, spans: Sequence[Span], explainer: Explainer) -> BatchRow:
    gpu, spec = explainer.instance.spec.gpu, explainer.instance.spec
    seconds = served.duration_s
    shares = {name: sum(span.parts_s[name] for span in spans) / seconds for name in GROUPS}
    return BatchRow(
        batch=served.asked.requests,
        seconds=seconds,
        output_tokens_per_s=served.output_tokens_per_s,
        compute_share=sum(span.flops for span in spans) / gpu.peak_flops(spec.weight_dtype) / seconds,
        memory_share=sum(span.num_bytes for span in spans) / gpu.hbm_bytes_per_s / seconds,
        attention_share=shares[ATTENTION],
        mlp_share=shares[MLP],
        allreduce_share=shares[ALLREDUCE],
        other_share=shares[OTHER],
    )


def _sentence(rows: Sequence[BatchRow]) -> str:
    first, last = rows[0], rows[-1]
    return (
        f"from {first.batch} to {last.batch} prompts at once throughput grows from {number(first.output_tokens_per_s)} "
        f"to {number(last.output_tokens_per_s)} output tokens/s: the weights are read once a step for all of them, and "
        f"{percent(last.compute_share)} of the peak is used instead of {percent(first.compute_share)}; MLPs take "
        f"{percent(last.mlp_share)} of the time, all-reduces {percent(last.allreduce_share)} "
        "(Llama-3.1-70B on four H100s, 1,024 tokens in, 128 out, step times by arithmetic)"
    )


def _beside(rows: Sequence[BatchRow]) -> tuple[Beside, ...]:
    last = rows[-1]
    return (
        Beside(
            what="share of the peak that a good engine reaches",
            theirs="50% to 72% of the optimum, others less",
            ours=f"{percent(last.compute_share)} with {last.batch} prompts",
            same_sign=last.compute_share > rows[0].compute_share,
            source="NanoFlow (Zhu et al. 2025, OSDI), abstract: large batches of several models on eight A100s",
            why_not_equal="its batches are of thousands of requests, ours all decode in step and end together",
        ),
    )


def _figure(answer: Answer[BatchRow]) -> Figure:
    figure, axes = figure_of("An offline batch", "Llama-3.1-70B on four H100s, 1,024 in, 128 out", 2)
    places, bottoms = range(len(answer.rows)), [0.0] * len(answer.rows)
    fields = ("attention_share", "mlp_share", "allreduce_share", "other_share")
    for name, field, colour in zip(GROUPS, fields, PALETTE, strict=False):
        heights = [100 * getattr(row, field) for row in answer.rows]
        axes[0].bar(places, heights, bottom=bottoms, color=colour, label=name)
        bottoms = [below + height for below, height in zip(bottoms, heights, strict=True)]
    for field, label, colour in (
        ("compute_share", "of the peak", PALETTE[4]),
        ("memory_share", "of the bandwidth", PALETTE[5]),
    ):
        axes[1].plot(places, [100 * getattr(row, field) for row in answer.rows], "o-", color=colour, label=label)
    for axis, label in zip(axes, ("time (%)", "used (%)"), strict=True):
        axis.set_ylabel(label)
        axis.set_xlabel("prompts at once")
        axis.set_ylim(0, 100)
        named_places(axis.xaxis, [str(row.batch) for row in answer.rows])
    legend_below(figure, *axes)
    return figure


def part_events(spans: Sequence[Span]) -> Iterator[Event]:
    """A lane of steps and below each what it goes to, one part behind the other."""
    yield from named(_PARTS, "what steps go to")
    for span in spans:
        yield slice_of(_PARTS, 1, "step", "step", (span.start_s, span.end_s), {})
        at_s = span.start_s
        for name, time_s in span.parts_s.items():
            share_of = {"share": time_s / span.duration_s}
            yield slice_of(_PARTS, 1, name, "part", (at_s, min(at_s + time_s, span.end_s)), share_of)
            at_s += time_s


def _write_trace(path: Path, desk: Desk, _: Answer[BatchRow]) -> None:
    """The smallest batch once more, for Perfetto."""
    asked = _asked(BATCHES[0])
    (result,) = simulation_of(asked, desk.seed).systems
    (served,) = desk.serve(asked)
    events = part_events(spans_of(served, explained(LINE, H100, *BY_OPERATOR)))
    with replacing(path) as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        write_trace(packed, result, detail_of(result), events)


LAB = Lab(
    title="Where an offline batch's time goes",
    ask=ask,
    columns={
        "batch": cell("batch"),
        "s": cell("seconds"),
        "tokens/s": cell("output_tokens_per_s"),
        "of peak": share("compute_share"),
        "of bandwidth": share("memory_share"),
        ATTENTION: share("attention_share"),
        MLP: share("mlp_share"),
        ALLREDUCE: share("allreduce_share"),
        OTHER: share("other_share"),
    },
    figure=_figure,
    simulated_only=True,
    files={".trace.json.gz": _write_trace},
)
