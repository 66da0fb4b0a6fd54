"""What do batches lose that wait for their longest answer, as answers differ more?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import curves, over_time
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean, share, times
from kvsim.record.labels import number, percent
from kvsim.study.pictures import figure_of, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEATS = 32
LINE = f"{VLLM_LLAMA} --max-num-seqs {SEATS} --no-async-scheduling"
SPREADS = {"all 128": (128, 128), "64 to 192": (64, 192), "1 to 255": (1, 255)}
"""Answers, drawn evenly from and to: 128 tokens in the mean."""
EVEN, *_, WIDEST = SPREADS
BATCHINGS = ("static", "continuous")


@dataclass(frozen=True, kw_only=True)
class BatchingRow:
    """One way to batch, with answers of one spread."""

    batching: str
    answers: str
    deviation_tokens: float
    """Standard deviation of the answers that came."""
    steps: int
    model_steps: int
    """Steps by counting seats and answers alone."""
    occupancy: float
    """Seats with somebody in them, over all steps, by counting."""
    output_tokens_per_s: float
    e2e_mean_ms: float


def ask(desk: Desk) -> Answer[BatchingRow]:
    """Equal requests at once, batched in both ways."""
    cases = [(batching, spread) for batching in BATCHINGS for spread in SPREADS]
    asked = [_asked(desk, batching, *SPREADS[spread]) for batching, spread in cases]
    found = desk.serve(*asked)
    rows = [_row(*case, served) for case, served in zip(cases, found, strict=True)]
    series = {case[0]: _occupied(served) for case, served in zip(cases, found, strict=True) if case[1] == WIDEST}
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), series=series, asked=tuple(asked))


def _asked(desk: Desk, batching: str, least: int, most: int) -> Asked:
    return Asked(
        line=LINE,
        gpu=H100,
        workload=f"in=256,out={least}-{most}",
        requests=desk.requests(160),
        sets=(f"engine.batching={batching}",),
        keeps_steps=True,
    )


def counted(answers: Sequence[int], seats: int, batching: str) -> tuple[int, int]:
    """Steps, and tokens that came in them, of answers that all wait from the start: everybody seated gets a token a
    step. ``static``: seats are taken again when all are free; ``continuous``: each at once."""
    waiting, left = list(answers)[::-1], list[int]()
    steps = tokens = 0
    while waiting or left:
        if batching == "continuous" or not left:
            while waiting and len(left) < seats:
                left.append(waiting.pop())
        steps += 1
        tokens += len(left)
        left = [each - 1 for each in left if each > 1]
    return steps, tokens


def _row(batching: str, spread: str, served: Served) -> BatchingRow:
    answers = served.requests["output_tokens"].to_numpy()
    steps, tokens = counted(answers.tolist(), SEATS, batching)
    return BatchingRow(
        batching=batching,
        answers=spread,
        deviation_tokens=float(np.std(answers)),
        steps=0 if served.steps is None else int(served.steps["num_steps"].sum()),
        model_steps=steps,
        occupancy=tokens / steps / SEATS,
        output_tokens_per_s=served.output_tokens_per_s,
        e2e_mean_ms=mean(served.e2e_ms),
    )


def _occupied(served: Served) -> tuple[Sequence[float], Sequence[float]]:
    """Times, and sequences that got a token, at the beginning and the end of each span of steps."""
    if served.steps is None:
        return [], []
    seated = (served.steps["decode_seqs"] + served.steps["prefill_seqs"]).to_list()
    at_s = [each for pair in zip(served.steps["start_s"], served.steps["end_s"], strict=True) for each in pair]
    return at_s, [float(each) for each in seated for _ in range(2)]


def _one(rows: Sequence[BatchingRow], batching: str, answers: str) -> BatchingRow:
    return next(row for row in rows if (row.batching, row.answers) == (batching, answers))


def _sentence(rows: Sequence[BatchingRow]) -> str:
    alike = _one(rows, "continuous", EVEN).output_tokens_per_s / _one(rows, "static", EVEN).output_tokens_per_s
    static, continuous = _one(rows, "static", WIDEST), _one(rows, "continuous", WIDEST)
    return (
        f"with answers of one length both ways serve the same ({number(alike)} times); with answers from 1 to 255 a "
        f"static batch keeps {percent(static.occupancy)} of its seats busy and a continuous one "
        f"{percent(continuous.occupancy)}, which serves "
        f"{times(continuous.output_tokens_per_s, static.output_tokens_per_s)} as many tokens "
        f"(Llama-3.1-8B on one H100, {SEATS} seats, prompts of 256, all at once)"
    )


def _beside(rows: Sequence[BatchingRow]) -> tuple[Beside, ...]:
    static, continuous = _one(rows, "static", WIDEST), _one(rows, "continuous", WIDEST)
    return (
        Beside(
            what="continuous over static, answers that differ most",
            theirs="8 times (continuous batching alone)",
            ours=times(continuous.output_tokens_per_s, static.output_tokens_per_s),
            same_sign=continuous.output_tokens_per_s > static.output_tokens_per_s,
            source="Anyscale 2023, How continuous batching enables 23x throughput: OPT-13B on one A100",
            why_not_equal="its answers reach 1,536 tokens with a heavy tail, and its engines differ in more than that",
        ),
    )


def _figure(answer: Answer[BatchingRow]) -> Figure:
    figure, (speed, seats) = figure_of("Static and continuous batches", "Llama-3.1-8B on one H100, 32 seats", 2)
    labels = ("deviation of answers (tokens)", "output tokens/s")
    curves(speed, answer.rows, "batching", "deviation_tokens", "output_tokens_per_s", labels)
    over_time(seats, dict(answer.series), "sequences in a step, widest answers")
    legend_below(figure, speed)
    return figure


LAB = Lab(
    title="Static and continuous batches",
    ask=ask,
    columns={
        "batching": cell("batching"),
        "answers": cell("answers"),
        "deviation": cell("deviation_tokens"),
        "steps": cell("steps"),
        "by counting": cell("model_steps"),
        "seats busy": share("occupancy"),
        "tokens/s": cell("output_tokens_per_s"),
        "E2E mean ms": cell("e2e_mean_ms"),
    },
    figure=_figure,
)
