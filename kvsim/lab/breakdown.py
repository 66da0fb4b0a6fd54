"""What the time of steps goes to: attention, MLP, all-reduces, all else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvsim.lab.backend import Served
from kvsim.plan.explained import Explainer
from kvsim.spec.operator_weights import DOWN, EXPERTS, GATE_UP, O_PROJ, QKV, ROUTER, SHARED
from kvsim.steptime import work
from kvsim.steptime.batch import Batch, Decodes, PromptChunk
from kvsim.steptime.explain import Explanation, Part

ATTENTION, MLP, ALLREDUCE, OTHER = "attention", "MLP", "all-reduce", "other"
GROUPS = (ATTENTION, MLP, ALLREDUCE, OTHER)
_GROUP_OF = {
    **dict.fromkeys((QKV, O_PROJ, work.ATTENTION_PREFILL, work.ATTENTION_DECODE), ATTENTION),
    **dict.fromkeys((GATE_UP, DOWN, EXPERTS, ROUTER, SHARED, "act_fn", work.EXCHANGE), MLP),
    work.ALLREDUCE: ALLREDUCE,
}
"""By operator; the rest is the output projection, norms, sampling and the host."""


@dataclass(frozen=True)
class Span:
    """Equal steps of one server, and what their time goes to."""

    start_s: float
    end_s: float
    parts_s: Mapping[str, float]
    """By group: they sum to the span."""
    flops: float
    num_bytes: float
    """All that one GPU computes, and moves through its memory."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def grouped_s(explanation: Explanation) -> dict[str, float]:
    """Seconds by group. Needs a time for every operator."""
    found = dict.fromkeys(GROUPS, 0.0)
    for part in explanation.parts:
        found[_GROUP_OF.get(part.name, OTHER)] += part.time_s or 0.0
    return found


def operators(explanation: Explanation) -> Iterator[Part]:
    """Every operator, also of parts that have no time for each of theirs."""
    for part in explanation.parts:
        yield from part.members or (part,)


def spans_of(served: Served, explainer: Explainer) -> list[Span]:
    """The steps of one server, in their order, each explained by its mean batch."""
    if served.steps is None:
        return []
    return [_span(row, explainer) for row in served.steps.iter_rows(named=True)]


def batch_of(row: Mapping[str, Any]) -> Batch:
    """The mean step of a span of ``kvsim.record.frames.steps_frame``."""
    sequences, prompts = int(row["decode_seqs"]), int(row["prefill_seqs"])
    decodes: tuple[Decodes, ...] = ()
    if sequences:
        decodes = (Decodes(sequences, max(1, round(row["kv_tokens"] / row["num_steps"] / sequences))),)
    whole, rest = divmod(int(row["prefill_tokens"]), prompts) if prompts else (0, 0)
    return Batch(decodes, tuple(PromptChunk(whole + (place < rest)) for place in range(prompts)))


def _span(row: Mapping[str, Any], explainer: Explainer) -> Span:
    explanation = explainer.explain(batch_of(row))
    start_s, end_s = float(row["start_s"]), float(row["end_s"])
    factor = (end_s - start_s) / explanation.time_s
    return Span(
        start_s,
        end_s,
        {name: time_s * factor for name, time_s in grouped_s(explanation).items()},
        row["num_steps"] * sum(part.flops for part in operators(explanation)),
        row["num_steps"] * sum(part.num_bytes for part in operators(explanation)),
    )
