"""What clients call TPOT and ITL, and what becomes of it here.

Here TPOT is (E2E - TTFT) / (n - 1) of each request, and its mean the mean over requests; ITL are the gaps between
tokens, so that its mean is sum(E2E - TTFT) / sum(n - 1). The two are the same where all answers are of one length.
"""

from __future__ import annotations

from collections.abc import Mapping

TPOT = "TPOT as here: (E2E - TTFT) / (n - 1) of each request, mean over requests"
TPOT_OF_ROWS = "TPOT and mean ITL made of each request's TTFT, E2E and tokens"
TPOT_ALIKE = "all answers are of one length: mean TPOT is mean ITL"
NO_TPOT = "mean TPOT, over requests, wants single requests or answers known to be of one length: not compared"
NO_TTFT = "no TTFT (answers were not streamed, or it was left out): TPOT and ITL not compared"
COUNTS_ANSWERED = "every request was answered: the file counts no others"
"""What has to be assumed where a client writes nothing of requests that failed."""
ONE_TOKEN = 0.05
"""Chunks carry a token each where the mean gap between them is as far as that from the time a token."""


def time_per_token_s(ttft_s: Mapping[str, float], e2e_s: Mapping[str, float], output_tokens: float) -> float | None:
    """Mean ITL from means: sum(E2E - TTFT) / sum(n - 1). ``None``: not known, or nothing after the first token."""
    if output_tokens <= 1 or "mean" not in ttft_s or "mean" not in e2e_s or e2e_s["mean"] <= ttft_s["mean"]:
        return None
    return (e2e_s["mean"] - ttft_s["mean"]) / (output_tokens - 1)


def itl_of_gaps(per_token_s: float | None, gaps_s: Mapping[str, float]) -> tuple[dict[str, float], str]:
    """ITL, and in words how it was come by. ``gaps_s``: statistics of the gaps between the chunks of answers.

    A chunk may carry several tokens; how many is only known from the time a token.
    """
    if per_token_s is None:
        if not gaps_s:
            return {}, "no ITL"
        return {}, "ITL is between chunks, and without E2E and TTFT nobody knows of how many tokens: not compared"
    if "mean" not in gaps_s or gaps_s["mean"] <= 0:
        return {"mean": per_token_s}, "mean ITL made of (E2E - TTFT) / (n - 1) over tokens"
    tokens = gaps_s["mean"] / per_token_s
    if abs(tokens - 1) <= ONE_TOKEN:
        return dict(gaps_s) | {"mean": per_token_s}, "ITL as here: gaps between tokens, as chunks carry one each"
    what = (
        f"ITL is between chunks of {tokens:.1f} tokens" if tokens > 1 else f"{1 / tokens:.1f} gaps are counted a token"
    )
    return {"mean": per_token_s}, f"{what}: its mean made one a token, its percentiles not compared"
