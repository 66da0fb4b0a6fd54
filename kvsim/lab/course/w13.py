"""How much faster is a step on two and four GPUs, and what share of it do all-reduces take?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.breakdown import ALLREDUCE, grouped_s
from kvsim.lab.charts import curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.words import H100, VLLM_LLAMA, cell, share
from kvsim.record.labels import number, percent
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.study.pictures import figure_of, legend_below
from kvsim.units import MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GPUS = {"H100, NVLink": H100, "L40S, PCIe": "l40s"}
DEGREES = (1, 2, 4)
STEPS = {
    "1 decodes": Batch((Decodes(1, 1024),)),
    "64 decode": Batch((Decodes(64, 1024),)),
    "prompt of 2,048": Batch((), (PromptChunk(2048),)),
}
BY_OPERATOR = "steptime.method=roofline"


@dataclass(frozen=True, kw_only=True)
class DegreeRow:
    """One step on so many GPUs."""

    gpu: str
    step: str
    degree: int
    step_ms: float
    allreduce_ms: float
    allreduce_share: float
    speedup: float
    """Over one GPU."""
    link: str
    """Which step on which GPUs: the curve that the row belongs to."""


def ask(desk: Desk) -> Answer[DegreeRow]:
    """No request is served: steps are looked at by themselves, by arithmetic, with a time for each operator."""
    rows = [row for gpu in GPUS for step in STEPS for row in _rows(gpu, step)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows))


def _rows(gpu: str, step: str) -> list[DegreeRow]:
    found = []
    for degree in DEGREES:
        explainer = explained(f"{VLLM_LLAMA} --tensor-parallel-size {degree}", GPUS[gpu], BY_OPERATOR)
        one = explainer.explain(STEPS[step])
        reduced_s = grouped_s(one)[ALLREDUCE]
        found.append((degree, one.time_s, reduced_s))
    alone_s = found[0][1]
    return [
        DegreeRow(
            gpu=gpu,
            step=step,
            degree=degree,
            step_ms=time_s / MILLI,
            allreduce_ms=reduced_s / MILLI,
            allreduce_share=reduced_s / time_s,
            speedup=alone_s / time_s,
            link=f"{gpu}: {step}",
        )
        for degree, time_s, reduced_s in found
    ]


def _one(rows: Sequence[DegreeRow], gpu: str, step: str, degree: int) -> DegreeRow:
    return next(row for row in rows if (row.gpu, row.step, row.degree) == (gpu, step, degree))


def _sentence(rows: Sequence[DegreeRow]) -> str:
    fast, slow = GPUS
    most = DEGREES[-1]
    decode, prompt = (_one(rows, fast, step, most) for step in ("1 decodes", "prompt of 2,048"))
    behind = _one(rows, slow, "prompt of 2,048", most)
    return (
        f"four H100s take a decode step {number(decode.speedup)} times as fast as one and a prompt "
        f"{number(prompt.speedup)} times: all-reduces are {percent(decode.allreduce_share)} and "
        f"{percent(prompt.allreduce_share)} of it and do not shrink with the degree; over PCIe they are "
        f"{percent(behind.allreduce_share)} of a prompt's step on four L40S, at {number(behind.speedup)} times one's "
        "speed (Llama-3.1-8B, step times by arithmetic)"
    )


def _beside(rows: Sequence[DegreeRow]) -> tuple[Beside, ...]:
    decode, prompt = (_one(rows, "H100, NVLink", step, 4).allreduce_share for step in ("1 decodes", "prompt of 2,048"))
    return (
        Beside(
            what="overhead of tensor parallelism over NVLink",
            theirs="up to 20%",
            ours=f"{percent(min(decode, prompt))} to {percent(max(decode, prompt))} on four GPUs",
            same_sign=prompt > 0.1,
            source="TokenWeave (Gond et al. 2025), abstract",
            why_not_equal="a smaller model here: the smaller its matrices, the larger the share",
        ),
    )


def _figure(answer: Answer[DegreeRow]) -> Figure:
    figure, (shares, faster) = figure_of("Tensor parallelism", "Llama-3.1-8B, step times by arithmetic", 2)
    labels = ("GPUs", "all-reduces (% of a step)")
    curves(shares, answer.rows, "link", "degree", "allreduce_share", labels, factor=100)
    curves(faster, answer.rows, "link", "degree", "speedup", ("GPUs", "times as fast as one"))
    faster.plot(DEGREES, DEGREES, ":", color="0.4")
    for axis in (shares, faster):
        axis.set_xticks(DEGREES)
    legend_below(figure, shares)
    return figure


LAB = Lab(
    title="Steps by tensor-parallel degree",
    ask=ask,
    columns={
        "GPU": cell("gpu"),
        "step": cell("step"),
        "degree": cell("degree"),
        "ms": cell("step_ms"),
        "all-reduces ms": cell("allreduce_ms"),
        "share": share("allreduce_share"),
        "times": cell("speedup"),
    },
    figure=_figure,
    simulated_only=True,
)
