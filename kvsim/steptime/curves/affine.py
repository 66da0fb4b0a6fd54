"""Step time as a formula of few coefficients: the form that both the roofline and fitted profiles use.

    t = dense(T) + a K + d n + beta max(0, KVmax - K/n) [n >= n*] + b sum(max(c, floor) (p + c/2))
        + s n_seq + comm0 + comm1 T + const

T tokens in the step, n decoding sequences with K KV tokens in all, n_seq sequences of any kind, prefill chunks of c
tokens on a prefix of p tokens. dense(T) is max(w0 + w1 T, p0 + p1 T), or a line through knots. A step that also
prefills C tokens has its own, larger a, d and beta, the latter from the first sequence on, and ``e n C``: its decodes
are run in the prefill kernel's tiles. Where a share w of the layers has a window of W tokens, that share of a and b
stops growing there: K is (1 - w) K + w min(K, n W), by the batch's mean context. For a fixed batch of decodes the time
is affine in K, up to the window and beyond it, and K grows by n each step, so a span of m steps takes an arithmetic
series. Where CUDA graphs are captured for some sizes, T is the smallest of
them that holds the step's tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from math import floor
from typing import Any

from kvsim.steptime.curves.base import ENDLESS, StepTime
from kvsim.steptime.curves.coefficients import Coefficients, Knots


class Line:
    """``coefficients.extended`` for scalars: linear between knots, going on beyond them."""

    __slots__ = ("_slopes", "_xs", "_ys")

    def __init__(self, knots: Knots) -> None:
        """``knots`` two or more, with ascending first members."""
        self._xs = [float(x) for x, _ in knots]
        self._ys = [float(y) for _, y in knots]
        self._slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairwise(knots)]

    def at(self, place: float) -> float:
        xs, low, high = self._xs, 0, len(self._xs)
        while low < high:
            middle = (low + high) >> 1
            if place < xs[middle]:
                high = middle
            else:
                low = middle + 1
        segment = low - 1
        if segment < 0:
            return max(0.0, self._ys[0] + self._slopes[0] * (place - self._xs[0]))
        if segment >= len(self._slopes):
            return self._ys[-1] + max(0.0, self._slopes[-1]) * (place - self._xs[-1])
        return self._ys[segment] + self._slopes[segment] * (place - self._xs[segment])


class AffineStepTime(StepTime):
    """How long one engine step takes, and spans of decode steps, from ``Coefficients``."""

    __slots__ = (
        "_a",
        "_a_mixed",
        "_b",
        "_comm",
        "_d",
        "_d_mixed",
        "_e",
        "_fixed",
        "_floor",
        "_line",
        "_p0",
        "_p1",
        "_padded",
        "_s",
        "_straggler",
        "_straggler_min",
        "_straggler_mixed",
        "_w0",
        "_w1",
        "_window",
        "_window_share",
    )

    def __init__(self, coefficients: Coefficients, capture_sizes: tuple[int, ...] = ()) -> None:
        """``capture_sizes``: tokens of the steps that CUDA graphs are captured for, ascending."""
        super().__init__(coefficients)
        c, self._padded = coefficients, capture_sizes
        self._fixed, self._comm = c.comm0_s + c.const_s, c.comm1_s_per_token
        self._w0, self._w1 = c.w0_s + self._fixed, c.w1_s_per_token + c.comm1_s_per_token
        self._p0, self._p1 = c.p0_s + self._fixed, c.p1_s_per_token + c.comm1_s_per_token
        self._line = Line(c.dense_knots) if c.dense_knots else None
        self._a, self._a_mixed = c.a_s_per_kv_token, c.a_mixed_s_per_kv_token
        self._d = c.s_s_per_seq + c.decode_s_per_seq
        self._d_mixed, self._e = c.decode_mixed_s_per_seq, c.decode_mixed_s_per_seq_token
        self._b, self._floor, self._s = c.b_s_per_token2, c.prefill_chunk_floor_tokens, c.s_s_per_seq
        self._straggler, self._straggler_min = c.straggler_s_per_token, c.straggler_min_seqs
        self._straggler_mixed = c.straggler_mixed_s_per_token
        self._window, self._window_share = c.window_tokens, c.window_share

    def __reduce__(self) -> tuple[Any, ...]:
        return AffineStepTime, (self.coefficients, self._padded)

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence of a decode batch matters to its step time."""
        return self._straggler > 0 or self._straggler_mixed > 0

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of one prefill chunk, in tokens squared; the sum over a step's chunks goes to ``mixed_s``."""
        width: float = max(float(chunk_tokens), self._floor)
        looked_at = prefix_tokens + 0.5 * chunk_tokens
        if self._window_share and prefix_tokens + chunk_tokens > self._window:
            looked_at -= self._window_share * self._beyond(chunk_tokens, prefix_tokens) / chunk_tokens
        return width * looked_at

    def _beyond(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Pairs of a chunk's tokens and earlier ones that are farther apart than the window."""
        after: float = prefix_tokens + chunk_tokens - self._window
        before: float = max(prefix_tokens - self._window, 0.0)
        return 0.5 * (after * after - before * before)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step: ``tokens`` over ``seqs`` sequences, of which ``decodes`` decode on ``kv_tokens`` in all."""
        prefilled = tokens - decodes
        time_s = self._dense_s(tokens) + self._b * chunk_work + self._s * seqs
        if decodes:
            read_tokens = float(kv_tokens)
            if self._window_share:
                read_tokens -= self._window_share * max(0.0, kv_tokens - decodes * self._window)
            time_s += self._a_mixed * read_tokens + decodes * (self._d_mixed + self._e * prefilled)
            if self._straggler_mixed:
                time_s += self._straggler_mixed * max(0.0, longest_tokens - kv_tokens / decodes)
            elif self._straggler:
                time_s += self._straggle_s(decodes, kv_tokens, longest_tokens)
        return time_s

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """First step's time, the growth per step, for a fixed batch whose first step reads ``kv_tokens``; for ever, or
        until its mean context fills the window."""
        first_s = self._dense_s(decodes) + self._a * kv_tokens + self._d * decodes
        if self._straggler:
            first_s += self._straggle_s(decodes, kv_tokens, longest_tokens)
        slope_s = self._a * decodes
        if not self._window_share:
            return first_s, slope_s, ENDLESS
        beyond_tokens = kv_tokens - decodes * self._window
        if beyond_tokens < 0:
            return first_s, slope_s, floor(-beyond_tokens / decodes) + 1
        share = self._window_share
        return first_s - self._a * share * beyond_tokens, slope_s * (1 - share), ENDLESS

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer a step takes that verifies so many further tokens."""
        logits_s = self._s * drafts if with_logits else 0.0
        return self._dense_s(tokens + drafts) - self._dense_s(tokens) + logits_s

    def _dense_s(self, tokens: int) -> float:
        if self._padded:
            place = bisect_left(self._padded, tokens)
            tokens = self._padded[place] if place < len(self._padded) else tokens
        if self._line is not None:
            return self._line.at(tokens) + self._fixed + self._comm * tokens
        memory_s, compute_s = self._w0 + self._w1 * tokens, self._p0 + self._p1 * tokens
        return memory_s if memory_s > compute_s else compute_s

    def _straggle_s(self, decodes: int, kv_tokens: int, longest_tokens: int) -> float:
        if decodes < self._straggler_min:
            return 0.0
        return self._straggler * max(0.0, longest_tokens - kv_tokens / decodes)
