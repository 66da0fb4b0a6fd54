"""Step times as an engine asks for them: how long its next step takes, and how a span of like steps goes on."""

from __future__ import annotations

from math import sqrt

from kvsim.steptime.curves.coefficients import Coefficients

ENDLESS = 1 << 60
"""Steps without limit."""


class StepTime:
    """How long one engine step takes, and spans of steps that only decode.

    All times are seconds of one whole instance. Of a step, ``decodes`` sequences decode on ``kv_tokens`` tokens in all,
    the longest on ``longest_tokens``; the others compute chunks of prompts.
    """

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: Coefficients) -> None:
        """``coefficients``: the formula that it is, or that comes nearest to it: for arithmetic over many steps."""
        self.coefficients = coefficients

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence of a decode batch matters to its step time."""
        raise NotImplementedError

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of one chunk behind ``prefix_tokens``; the sum over a step's chunks is for ``mixed_s``."""
        raise NotImplementedError

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step that computes ``tokens`` tokens over ``seqs`` sequences."""
        raise NotImplementedError

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """For a fixed batch whose first step reads ``kv_tokens``: the first step's time, the growth per step, and how
        many steps (at least 1) both hold for."""
        raise NotImplementedError

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer a step of ``tokens`` tokens over ``seqs`` sequences takes that verifies ``drafts`` further
        tokens behind sequences that decode: their KV is read with the sequence's. ``with_logits``: of each of them."""
        raise NotImplementedError

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Time of a step that holds nothing but this chunk."""
        return self.mixed_s(chunk_tokens, 1, 0, 0, 0, self.chunk_work(chunk_tokens, prefix_tokens))

    def decode_alone_s(self, kv_tokens: int) -> float:
        """Time of a step that holds nothing but one decoding sequence of ``kv_tokens``."""
        return self.decode_span(1, kv_tokens, kv_tokens)[0]


def span_s(steps: int, first_s: float, slope_s: float) -> float:
    """Duration of ``steps`` steps that take first, first + slope, first + 2 slope, ...: an arithmetic series."""
    return steps * first_s + slope_s * (steps * (steps - 1) * 0.5)


def steps_until(until_s: float, anchor_s: float, done: int, limit: int, first_s: float, slope_s: float) -> int:
    """How many steps after the first ``done`` ones since ``anchor_s`` it takes to the first boundary at or after
    ``until_s``: at least 1, at most ``limit``.

    A boundary is ``anchor + span_s(...)`` as rounded, the very time the engine schedules.
    """
    elapsed_s = until_s - anchor_s
    if slope_s > 0:
        half = first_s - 0.5 * slope_s
        guess = (sqrt(half * half + 2 * slope_s * elapsed_s) - half) / slope_s
    else:
        guess = elapsed_s / first_s if first_s > 0 else done + limit
    total, least, most = int(guess), done + 1, done + limit
    if total < least:
        total = least
    elif total > most:
        total = most
    while total > least and anchor_s + ((total - 1) * first_s + slope_s * ((total - 1) * (total - 2) * 0.5)) >= until_s:
        total -= 1
    while total < most and anchor_s + (total * first_s + slope_s * (total * (total - 1) * 0.5)) < until_s:
        total += 1
    return total - done
