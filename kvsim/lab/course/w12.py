"""What do 8 and 4 bits of weights buy in memory and speed, and what do they cost in accuracy?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvsim.lab.backend import Asked, Served
from kvsim.lab.lab import Answer, Beside, Desk, Lab, explained
from kvsim.lab.words import H100, VLLM_LLAMA, cell, mean, times
from kvsim.record.labels import listed, number
from kvsim.study.pictures import PALETTE, figure_of, plain_numbers
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TYPES = {
    "FP16": ("--dtype float16", 1.0),
    "FP8": ("--quantization fp8", 1.0),
    "INT4": ("--quantization awq", 0.989),
}
"""Flags, and the share of OpenLLM v1's score that is kept: FP8 is lossless by Kurtic et al. 2025, INT4 by Red Hat's
card of Meta-Llama-3.1-8B-Instruct-quantized.w4a16."""
USERS = (1, 256)
WORKLOAD = "in=512,out=128"


@dataclass(frozen=True, kw_only=True)
class TypeRow:
    """One type of weights."""

    weights: str
    weights_gb: float
    kv_tokens: int | None
    """In what they leave."""
    tpot_one_user_ms: float
    tokens_per_s_one_user: float
    tokens_per_s_full: float
    """With 256 users."""
    accuracy_kept: float
    """Published, not simulated."""
    pareto: bool
    """Whether none other is as accurate and faster with one user, or as fast and more accurate; the same of a full
    server."""


def ask(desk: Desk) -> Answer[TypeRow]:
    """One user, and as many as fill the GPU."""
    asked = [
        Asked(
            line=f"{VLLM_LLAMA} {flag}",
            gpu=H100,
            workload=WORKLOAD,
            requests=max(desk.requests(8), users),
            concurrency=users,
        )
        for flag, _ in TYPES.values()
        for users in USERS
    ]
    found = desk.serve(*asked)
    pairs = [(found[place], found[place + 1]) for place in range(0, len(found), len(USERS))]
    scores = [(one.output_tokens_per_s, full.output_tokens_per_s) for one, full in pairs]
    kept = [accuracy for _, accuracy in TYPES.values()]
    rows = [
        _row(name, one, full, _is_pareto(place, scores, kept))
        for place, (name, (one, full)) in enumerate(zip(TYPES, pairs, strict=True))
    ]
    return Answer(rows=tuple(rows), sentence=_sentence(rows), beside=_beside(rows), asked=tuple(asked))


def _is_pareto(place: int, speeds: Sequence[tuple[float, float]], accuracies: Sequence[float]) -> bool:
    """Whether in one of the two speeds nothing as good in one is better in the other."""
    return any(_is_unbeaten(place, [speed[load] for speed in speeds], accuracies) for load in range(len(USERS)))


def _is_unbeaten(place: int, speeds: Sequence[float], accuracies: Sequence[float]) -> bool:
    """Whether none is as accurate and faster, or as fast and more accurate."""
    own, own_speed = accuracies[place], speeds[place]
    return not any(
        (accuracy >= own and speed > own_speed) or (accuracy > own and speed >= own_speed)
        for speed, accuracy in zip(speeds, accuracies, strict=True)
    )


def _unbeaten(rows: Sequence[TypeRow], speeds: Sequence[float]) -> str:
    accuracies = [row.accuracy_kept for row in rows]
    return listed([row.weights for place, row in enumerate(rows) if _is_unbeaten(place, speeds, accuracies)])


def _row(name: str, one: Served, full: Served, pareto: bool) -> TypeRow:
    flag, accuracy = TYPES[name]
    spec = explained(f"{VLLM_LLAMA} {flag}", H100).instance.spec
    return TypeRow(
        weights=name,
        weights_gb=spec.loaded_weight_bytes_per_gpu / GB,
        kv_tokens=full.kv_tokens,
        tpot_one_user_ms=mean(one.tpot_ms),
        tokens_per_s_one_user=one.output_tokens_per_s,
        tokens_per_s_full=full.output_tokens_per_s,
        accuracy_kept=accuracy,
        pareto=pareto,
    )


def _kept(accuracy: float) -> str:
    return f"{100 * accuracy:.1f}%"


def _sentence(rows: Sequence[TypeRow]) -> str:
    wide, fp8, int4 = rows
    one_user = _unbeaten(rows, [row.tokens_per_s_one_user for row in rows])
    full = _unbeaten(rows, [row.tokens_per_s_full for row in rows])
    return (
        f"weights of {number(wide.weights_gb)}, {number(fp8.weights_gb)} and {number(int4.weights_gb)} GB (FP16, FP8, "
        f"INT4) give one user {number(wide.tpot_one_user_ms)}, {number(fp8.tpot_one_user_ms)} and "
        f"{number(int4.tpot_one_user_ms)} ms a token: fewer bytes to read; with {USERS[-1]} users, where computing "
        f"binds, FP8 serves {times(fp8.tokens_per_s_full, wide.tokens_per_s_full)} FP16's tokens and INT4 "
        f"{number(int4.tokens_per_s_full / wide.tokens_per_s_full)}, keeping {_kept(int4.accuracy_kept)} of accuracy; "
        f"in speed and accuracy at once nothing beats {one_user} for one user, and {full} for {USERS[-1]} "
        "(Llama-3.1-8B on one H100)"
    )


def _beside(rows: Sequence[TypeRow]) -> tuple[Beside, ...]:
    wide, fp8, int4 = rows
    source = "Kurtic et al. 2025 (ACL), abstract: Llama-3.1 in vLLM on several GPUs"
    return (
        Beside(
            what="best for one user at a time",
            theirs="INT4 weights",
            ours=max(rows, key=lambda row: row.tokens_per_s_one_user).weights,
            same_sign=int4.tokens_per_s_one_user > fp8.tokens_per_s_one_user > wide.tokens_per_s_one_user,
            source=source,
        ),
        Beside(
            what="best for a full high-end GPU",
            theirs="8-bit weights and activations (mid and large models)",
            ours=max(rows, key=lambda row: row.tokens_per_s_full).weights,
            same_sign=fp8.tokens_per_s_full > max(int4.tokens_per_s_full, wide.tokens_per_s_full),
            source=source,
            why_not_equal="INT4's step times are scaled from another type's, not measured",
        ),
    )


def _figure(answer: Answer[TypeRow]) -> Figure:
    figure, axes = figure_of("Speed and accuracy by type of weights", "Llama-3.1-8B on one H100, 512 in, 128 out", 2)
    fields = ("tokens_per_s_one_user", "tokens_per_s_full")
    for axis, field, label in zip(axes, fields, ("tokens/s, one user", f"tokens/s, {USERS[-1]} users"), strict=True):
        for row, colour in zip(answer.rows, PALETTE, strict=False):
            axis.plot(getattr(row, field), 100 * row.accuracy_kept, "o", markersize=9, color=colour)
            axis.annotate(
                row.weights, (getattr(row, field), 100 * row.accuracy_kept), (6, 6), textcoords="offset points"
            )
        axis.set_xlim(0, 1.25 * max(getattr(row, field) for row in answer.rows))
        axis.set_ylim(98, 100.5)
        axis.set_xlabel(label)
        axis.set_ylabel("accuracy kept (%)")
        plain_numbers(axis.xaxis)
    return figure


LAB = Lab(
    title="Weights in 16, 8 and 4 bits",
    ask=ask,
    columns={
        "weights": cell("weights"),
        "GB": cell("weights_gb"),
        "KV tokens": cell("kv_tokens"),
        "TPOT ms": cell("tpot_one_user_ms"),
        "tokens/s": cell("tokens_per_s_one_user"),
        "full": cell("tokens_per_s_full"),
        "accuracy": lambda row: _kept(row.accuracy_kept),
        "Pareto": cell("pareto"),
    },
    figure=_figure,
)
