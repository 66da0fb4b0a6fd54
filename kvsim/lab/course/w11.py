"""When does speculative decoding pay: by method, by the number of drafts, and by load?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.charts import curves
from kvsim.lab.lab import Answer, Beside, Desk, Lab
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean
from kvsim.record.labels import number
from kvsim.study.pictures import figure_of, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = {
    "draft model": "--spec-method draft_model --spec-model meta-llama/Llama-3.2-1B-Instruct",
    "n-gram": "--spec-method ngram",
    "EAGLE-3": "--spec-method eagle3",
}
NONE = "none"
DRAFTS = (1, 3, 7)
USERS = (1, 16, 128)
WORKLOAD = "in=512,out=128"


@dataclass(frozen=True, kw_only=True)
class DraftRow:
    """One method with so many drafts for so many users."""

    method: str
    drafts: int
    users: int
    tpot_mean_ms: float
    output_tokens_per_s: float
    speedup: float
    """Output tokens a second over those without drafts, for as many users."""


def ask(desk: Desk) -> Answer[DraftRow]:
    """Users who ask again when they are answered; as many rounds as the scale has."""
    cases = [(NONE, 0, users) for users in USERS]
    cases += [(method, drafts, users) for method in METHODS for drafts in DRAFTS for users in USERS]
    asked = [_asked(desk, *case) for case in cases]
    found = desk.serve(*asked)
    alone = {served.asked.concurrency: served.output_tokens_per_s for served in found[: len(USERS)]}
    rows = [_row(*case, served, alone[case[2]]) for case, served in zip(cases, found, strict=True)]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _asked(desk: Desk, method: str, drafts: int, users: int) -> Asked:
    flags = "" if method == NONE else f" {METHODS[method]} --spec-tokens {drafts}"
    requests = max(desk.requests(8), users)
    return Asked(line=VLLM_LLAMA + flags, gpu=H100, workload=WORKLOAD, requests=requests, concurrency=users)


def _row(method: str, drafts: int, users: int, served: Served, alone_tokens_per_s: float) -> DraftRow:
    return DraftRow(
        method=method,
        drafts=drafts,
        users=users,
        tpot_mean_ms=mean(served.tpot_ms),
        output_tokens_per_s=served.output_tokens_per_s,
        speedup=served.output_tokens_per_s / alone_tokens_per_s,
    )


def _one(rows: Sequence[DraftRow], method: str, drafts: int, users: int) -> DraftRow:
    return next(row for row in rows if (row.method, row.drafts, row.users) == (method, drafts, users))


def _sentence(rows: Sequence[DraftRow]) -> str:
    parts = []
    for method in METHODS:
        own = [row for row in rows if row.method == method]
        best = {users: max((row for row in own if row.users == users), key=lambda row: row.speedup) for users in USERS}
        low, high = best[USERS[0]], best[USERS[-1]]
        parts.append(
            f"{method} {number(low.speedup)} times with {low.drafts} drafts for one user and {number(high.speedup)} "
            f"with {high.drafts} for {high.users}"
        )
    worst = min(rows, key=lambda row: row.speedup)
    return (
        f"drafts pay where steps wait for memory, and less as users fill them: {'; '.join(parts)}; the worst choice, "
        f"{worst.drafts} drafts by {worst.method} for {worst.users}, gives {number(worst.speedup)} times the tokens "
        "(Llama-3.1-8B on one H100, 512 tokens in, 128 out; shares of accepted drafts are published ones, of chat for "
        "EAGLE-3, of edits of code for n-gram, of summaries for the draft model)"
    )


def _beside(rows: Sequence[DraftRow]) -> tuple[Beside, ...]:
    one, many = _one(rows, "EAGLE-3", 3, USERS[0]), _one(rows, "EAGLE-3", 3, USERS[-1])
    drafted = _one(rows, "draft model", 7, USERS[-1])
    return (
        Beside(
            what="EAGLE-3 on Llama-3.1-8B, one user",
            theirs="1.65 times (2 drafts)",
            ours=f"{number(one.speedup)} times (3 drafts)",
            same_sign=one.speedup > 1,
            source="vLLM pull request 16937: MT-Bench on one H100, version 0.8",
            why_not_equal="version 0.8 ran the drafter without graphs",
        ),
        Beside(
            what="speed-up as batches grow",
            theirs="shrinks, up to a loss where few drafts are accepted",
            ours=f"EAGLE-3 {number(one.speedup)} to {number(many.speedup)}, draft model {number(drafted.speedup)}",
            same_sign=many.speedup < one.speedup,
            source="Speculative Decoding: Performance or Illusion? (arXiv 2601.11580): vLLM on H100s, batches to 128",
        ),
    )


def _figure(answer: Answer[DraftRow]) -> Figure:
    figure, axes = figure_of("Speculative decoding by load", "Llama-3.1-8B on one H100, 512 in, 128 out", 3)
    for axis, drafts in zip(axes, DRAFTS, strict=True):
        own = [row for row in answer.rows if row.drafts == drafts]
        curves(axis, own, "method", "users", "speedup", ("users", "times the tokens without"), log=True)
        axis.axhline(1, color="0.4", linewidth=1, linestyle=":")
        axis.set_title(f"{drafts} draft{'s' if drafts > 1 else ''}", fontsize=10)
        axis.set_ylim(0, 4)
    legend_below(figure, axes[0])
    return figure


LAB = Lab(
    title="Speculative decoding by method, drafts and users",
    ask=ask,
    columns={
        "method": cell("method"),
        "drafts": cell("drafts"),
        "users": cell("users"),
        "TPOT mean ms": cell("tpot_mean_ms"),
        "tokens/s": cell("output_tokens_per_s"),
        "times": cell("speedup"),
    },
    figure=_figure,
)
