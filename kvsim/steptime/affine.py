"""Step time as a formula of few coefficients: the form that both the roofline and fitted profiles use.

    t = max(w0 + w1 T, p0 + p1 T) + a K + beta max(0, KVmax - K/n) [n >= n*] + b sum(max(c, floor) (p + c/2))
        + s n_seq + comm0 + comm1 T + const

T tokens in the step, n decoding sequences with K KV tokens in all, prefill chunks of c tokens on a prefix of p tokens.
A step that also prefills has its own, larger ``a``. For a fixed batch of decodes the time is affine in K, and K grows
by n each step, so a span of m steps takes an arithmetic series. Where CUDA graphs are captured for some sizes, T is
the smallest of them that holds the step's tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields, replace
from math import sqrt


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Of one instance. Every value is >= 0; seconds and tokens as the names say."""

    w0_s: float
    w1_s_per_token: float
    p0_s: float
    p1_s_per_token: float
    a_s_per_kv_token: float
    a_mixed_s_per_kv_token: float
    straggler_s_per_token: float
    straggler_min_seqs: float
    b_s_per_token2: float
    prefill_chunk_floor_tokens: float
    s_s_per_seq: float
    comm0_s: float
    comm1_s_per_token: float
    const_s: float

    def scaled(self, factor: float) -> Coefficients:
        """Every time multiplied by ``factor``; thresholds and floors stay."""
        times = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name not in _NOT_TIMES}
        return replace(self, **times)


_NOT_TIMES = frozenset({"straggler_min_seqs", "prefill_chunk_floor_tokens"})


class AffineStepTime:
    """How long one engine step takes, and spans of decode steps, from ``Coefficients``."""

    __slots__ = (
        "_a",
        "_a_mixed",
        "_b",
        "_fixed",
        "_floor",
        "_p0",
        "_p1",
        "_padded",
        "_s",
        "_straggler",
        "_straggler_min",
        "_w0",
        "_w1",
        "coefficients",
    )

    def __init__(self, coefficients: Coefficients, capture_sizes: tuple[int, ...] = ()) -> None:
        """``capture_sizes``: tokens of the steps that CUDA graphs are captured for, ascending."""
        self._padded = capture_sizes
        c = self.coefficients = coefficients
        self._fixed = c.comm0_s + c.const_s
        self._w0, self._w1 = c.w0_s + self._fixed, c.w1_s_per_token + c.comm1_s_per_token
        self._p0, self._p1 = c.p0_s + self._fixed, c.p1_s_per_token + c.comm1_s_per_token
        self._a, self._a_mixed = c.a_s_per_kv_token, c.a_mixed_s_per_kv_token
        self._b, self._floor, self._s = c.b_s_per_token2, c.prefill_chunk_floor_tokens, c.s_s_per_seq
        self._straggler, self._straggler_min = c.straggler_s_per_token, c.straggler_min_seqs

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence of a decode batch matters to its step time."""
        return self._straggler > 0

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of one prefill chunk, in tokens squared; the sum over a step's chunks goes to ``mixed_s``."""
        width = chunk_tokens if chunk_tokens > self._floor else self._floor
        return width * (prefix_tokens + 0.5 * chunk_tokens)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step: ``tokens`` over ``seqs`` sequences, of which ``decodes`` decode on ``kv_tokens`` in all."""
        if self._padded:
            tokens = self._pad(tokens)
        memory_s, compute_s = self._w0 + self._w1 * tokens, self._p0 + self._p1 * tokens
        dense_s = memory_s if memory_s > compute_s else compute_s
        time_s = dense_s + self._b * chunk_work + self._s * seqs
        if decodes:
            time_s += self._a_mixed * kv_tokens
            if self._straggler:
                time_s += self._straggle_s(decodes, kv_tokens, longest_tokens)
        return time_s

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float]:
        """First step's time and the growth per step, for a fixed batch whose first step reads ``kv_tokens``."""
        tokens = self._pad(decodes) if self._padded else decodes
        memory_s, compute_s = self._w0 + self._w1 * tokens, self._p0 + self._p1 * tokens
        dense_s = memory_s if memory_s > compute_s else compute_s
        first_s = dense_s + self._a * kv_tokens + self._s * decodes
        if self._straggler:
            first_s += self._straggle_s(decodes, kv_tokens, longest_tokens)
        return first_s, self._a * decodes

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Time of a step that holds nothing but this chunk."""
        return self.mixed_s(chunk_tokens, 1, 0, 0, 0, self.chunk_work(chunk_tokens, prefix_tokens))

    def decode_alone_s(self, kv_tokens: int) -> float:
        """Time of a step that holds nothing but one decoding sequence of ``kv_tokens``."""
        return self.decode_span(1, kv_tokens, kv_tokens)[0]

    def _pad(self, tokens: int) -> int:
        place = bisect_left(self._padded, tokens)
        return self._padded[place] if place < len(self._padded) else tokens

    def _straggle_s(self, decodes: int, kv_tokens: int, longest_tokens: int) -> float:
        if decodes < self._straggler_min:
            return 0.0
        return self._straggler * max(0.0, longest_tokens - kv_tokens / decodes)


def span_s(steps: int, first_s: float, slope_s: float) -> float:
    """Duration of ``steps`` steps that take first, first + slope, first + 2 slope, ...: an arithmetic series."""
    return steps * first_s + slope_s * (steps * (steps - 1) * 0.5)


def steps_until(until_s: float, anchor_s: float, done: int, limit: int, first_s: float, slope_s: float) -> int:
    """Of the steps after the first ``done`` ones since ``anchor_s``, how many to the first boundary at or after
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
