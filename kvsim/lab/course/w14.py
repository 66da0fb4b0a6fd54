"""When is a mixture of experts as fast as its active part, and what do whole experts and their load change?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.charts import curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.words import H100, cell
from kvsim.record.labels import number
from kvsim.steptime.batch import Batch, Decodes
from kvsim.study.pictures import figure_of, legend_below
from kvsim.units import MILLI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIXTRAL = "vllm serve mistralai/Mixtral-8x7B-Instruct-v0.1 --max-model-len 4096"
BY_OPERATOR = "steptime.method=roofline"
"""Step times by arithmetic, alike for all of them."""
TENSOR, EXPERT, SKEWED = "Mixtral, TP 4", "Mixtral, EP 4", "Mixtral, EP 4, uneven"
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    TENSOR: (f"{MIXTRAL} --tensor-parallel-size 4", 1, ()),
    EXPERT: (f"{MIXTRAL} --data-parallel-size 4 --enable-expert-parallel", 4, ()),
    SKEWED: (
        f"{MIXTRAL} --data-parallel-size 4 --enable-expert-parallel",
        4,
        ("engine.expert_load.distribution=power_law",),
    ),
    "Llama-2-13B, TP 4": ("vllm serve meta-llama/Llama-2-13b-chat-hf --tensor-parallel-size 4", 1, ()),
    "Llama-2-70B, TP 4": ("vllm serve meta-llama/Llama-2-70b-chat-hf --tensor-parallel-size 4", 1, ()),
}
"""Lines, engines that share the sequences, and the load of experts: even, or the n-th gets 1/n as much."""
BATCHES = (4, 16, 64, 256, 1024)
"""Sequences over all four GPUs."""
CONTEXT_TOKENS = 256
EXPERTS, ACTIVE = 8, 2


@dataclass(frozen=True, kw_only=True)
class ExpertsRow:
    """One deployment's decode step."""

    deployment: str
    batch: int
    step_ms: float
    tokens_per_s: float
    experts_touched: float | None
    """How many of a layer's eight, in the mean, where all are as popular."""
    fullest: float
    """Tokens of the GPU whose experts get most, over the mean."""


def ask(desk: Desk) -> Answer[ExpertsRow]:
    """No request is served: steps of four GPUs are looked at by themselves."""
    rows = [row for name, case in CASES.items() for row in _rows(name, *case)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows))


def touched(tokens: int, experts: int = EXPERTS, active: int = ACTIVE) -> float:
    """Experts that at least one of so many tokens goes to, each to ``active`` of them evenly."""
    return experts * (1 - (1 - active / experts) ** tokens)


def _rows(name: str, line: str, engines: int, sets: tuple[str, ...]) -> list[ExpertsRow]:
    explainer = explained(line, H100, BY_OPERATOR, *sets)
    found = []
    for batch in BATCHES:
        step = explainer.explain(Batch((Decodes(batch // engines, CONTEXT_TOKENS),)))
        found.append(
            ExpertsRow(
                deployment=name,
                batch=batch,
                step_ms=step.time_s / MILLI,
                tokens_per_s=batch / step.time_s,
                experts_touched=touched(batch) if name in (TENSOR, EXPERT) else None,
                fullest=explainer.fullest,
            )
        )
    return found


def _one(rows: Sequence[ExpertsRow], name: str, batch: int) -> ExpertsRow:
    return next(row for row in rows if (row.deployment, row.batch) == (name, batch))


def _sentence(rows: Sequence[ExpertsRow]) -> str:
    few, many = BATCHES[0], BATCHES[-1]
    dense = {batch: _one(rows, "Llama-2-13B, TP 4", batch) for batch in BATCHES}
    mixed = {batch: _one(rows, TENSOR, batch) for batch in BATCHES}
    whole, uneven = _one(rows, EXPERT, many), _one(rows, SKEWED, many)
    return (
        f"Mixtral computes as much a token as 13 billion parameters do, and with {few} sequences, which touch "
        f"{number(mixed[few].experts_touched)} of 8 experts, its step takes "
        f"{number(mixed[few].step_ms / dense[few].step_ms)} times that of Llama-2-13B, with {many:,} "
        f"{number(mixed[many].step_ms / dense[many].step_ms)} times; with {many:,} sequences whole experts on four "
        f"engines take {number(whole.step_ms)} ms a step instead of {number(mixed[many].step_ms)}, and with an uneven "
        f"load ({number(uneven.fullest)} times the mean on one GPU) {number(uneven.step_ms)} "
        "(four H100s, by arithmetic)"
    )


def _beside(rows: Sequence[ExpertsRow]) -> tuple[Beside, ...]:
    mixed, large = _one(rows, TENSOR, BATCHES[0]), _one(rows, "Llama-2-70B, TP 4", BATCHES[0])
    source = "Mistral AI, Mixtral of experts (December 2023): 12.9 of 46.7 billion parameters are active"
    return (
        Beside(
            what="Mixtral against Llama-2-70B",
            theirs="6 times as fast",
            ours=f"{number(large.step_ms / mixed.step_ms)} times with {BATCHES[0]} sequences",
            same_sign=mixed.step_ms < large.step_ms,
            source=source,
            why_not_equal="six is nearer to what computing gives; a decode step reads every expert that is touched",
        ),
    )


def _figure(answer: Answer[ExpertsRow]) -> Figure:
    figure, (step, speed) = figure_of("A mixture of experts", "decode steps of four H100s, by arithmetic", 2)
    curves(step, answer.rows, "deployment", "batch", "step_ms", ("sequences", "ms a step"), log=True)
    curves(speed, answer.rows, "deployment", "batch", "tokens_per_s", ("sequences", "tokens/s"), log=True)
    legend_below(figure, step)
    return figure


LAB = Lab(
    title="Decode steps of a mixture of experts and of dense models",
    ask=ask,
    columns={
        "deployment": cell("deployment"),
        "batch": cell("batch"),
        "ms": cell("step_ms"),
        "tokens/s": cell("tokens_per_s"),
        "experts touched": cell("experts_touched"),
        "fullest GPU": cell("fullest"),
    },
    figure=_figure,
    simulated_only=True,
)
