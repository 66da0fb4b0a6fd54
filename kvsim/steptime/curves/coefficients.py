"""The few numbers that a step-time formula of one instance takes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.pickling import by_fields

Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Coefficients of one instance's step time. Every value is >= 0; seconds and tokens as the names say."""

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
    decode_s_per_seq: float = 0.0
    decode_mixed_s_per_seq: float = 0.0
    decode_mixed_s_per_seq_token: float = 0.0
    straggler_mixed_s_per_token: float = 0.0
    window_share: float = 0.0
    """Share of a and of b in layers in which a token looks at no more than ``window_tokens`` before it."""
    window_tokens: float = 0.0
    dense_knots: Knots = ()
    """``(tokens, seconds)``, tokens ascending, two or more, in place of the two lines w and p; the outermost segments
    go on beyond the ends, where times do not fall."""
    drafts_per_seq: float = 0.0
    """Speculative decoding: tokens of a step that each decoding sequence has beside its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    def scaled(self, factor: float) -> Coefficients:
        """Every time multiplied by ``factor``; thresholds and floors stay."""
        times = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name not in _NOT_TIMES}
        knots = tuple((tokens, time_s * factor) for tokens, time_s in self.dense_knots)
        return replace(self, **times, dense_knots=knots)

    def dense_s(self, tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The part of a step's time that its number of tokens decides, all-reduces and constants included."""
        if self.dense_knots:
            work_s = extended(tokens, self.dense_knots)
        else:
            work_s = np.maximum(
                self.w0_s + self.w1_s_per_token * tokens,
                self.p0_s + self.p1_s_per_token * tokens,
            )
        found: npt.NDArray[np.float64] = work_s + (self.comm0_s + self.const_s) + self.comm1_s_per_token * tokens
        return found

    def read_tokens(self, mean_tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """KV tokens that a decoding sequence reads, in the mean over layers, where the mean context is that long."""
        found: npt.NDArray[np.float64] = mean_tokens - self.window_share * np.maximum(
            mean_tokens - self.window_tokens, 0.0
        )
        return found

    def attention_work(
        self, tokens: npt.NDArray[np.float64], prefix_tokens: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Attention work of chunks behind prefixes, tokens squared: max(c, floor) (p + c / 2), in layers with a window
        without what lies before it; it telescopes over the chunks of one prompt.
        """
        beyond = _beyond(prefix_tokens + tokens, self.window_tokens) - _beyond(prefix_tokens, self.window_tokens)
        looked_at = prefix_tokens + tokens / 2 - self.window_share * beyond / tokens
        found: npt.NDArray[np.float64] = np.maximum(tokens, self.prefill_chunk_floor_tokens) * looked_at
        return found


def _beyond(tokens: npt.NDArray[np.float64], window_tokens: float) -> npt.NDArray[np.float64]:
    """Pairs among a prompt's first ``tokens`` that are farther apart than a window."""
    found: npt.NDArray[np.float64] = np.maximum(tokens - window_tokens, 0.0) ** 2 / 2
    return found


_NOT_TIMES = frozenset(
    {
        "straggler_min_seqs",
        "prefill_chunk_floor_tokens",
        "window_share",
        "window_tokens",
        "dense_knots",
        "drafts_per_seq",
    }
)


def extended(places: npt.NDArray[np.float64], knots: Knots) -> npt.NDArray[np.float64]:
    """Linear interpolation between knots; the outermost segments go on beyond the ends, but neither below 0 before the
    first knot nor down behind the last one."""
    xs, ys = np.array(knots).T
    slopes = np.append(np.diff(ys) / np.diff(xs), 0.0)
    slopes[-1] = max(0.0, slopes[-2])
    segment = np.clip(np.searchsorted(xs, places, side="right") - 1, 0, len(slopes) - 1)
    found: npt.NDArray[np.float64] = ys[segment] + slopes[segment] * (places - xs[segment])
    return np.where(places < xs[0], np.maximum(found, 0.0), found)
