"""What is said of the token budget that the unified baseline was given."""

from __future__ import annotations

import pytest

from kvsim.capacity.load_search import tuning_words
from kvsim.capacity.pilot import Tuned
from kvsim.config import load_config
from kvsim.plan.mode import PD

PLAN = PD.plan(load_config(preset="smoke").config)
TAKES = "the unified baseline takes 2,048 tokens a step"
SAMPLE = "on a sample of 64 GPUs"
LOWEST = "and it has the lowest mean TTFT"


BEST = f"{TAKES}, the best by goodput {SAMPLE} (requests/s: 512: 4, 2048: 9.123, 8192: 5)"
ALL = (
    f"{TAKES}: {SAMPLE} 512, 2,048 and 8,192 tie in goodput (9.1 requests/s each), {LOWEST} "
    "(ms: 512: 300, 2048: 200, 8192: 250)"
)
NEAR = (
    f"{TAKES}: {SAMPLE} 2,048 and 8,192 tie in goodput (requests/s: 512: 4, 2048: 9.123, 8192: 9.1), {LOWEST} "
    "(ms: 2048: 200, 8192: 250)"
)
ALIKE = (
    f"{TAKES}: {SAMPLE} 2,048 and 8,192 tie in goodput (requests/s: 512: 4, 2048: 9.1, 8192: 9.1), and in mean TTFT: "
    "it is the first of them"
)


@pytest.mark.parametrize(
    ("goodput", "ttft_s", "tied", "words"),
    [
        ((4.0, 9.123, 5.0), (0.3, 0.2, 0.1), (2048,), BEST),
        ((9.1, 9.1, 9.1), (0.3, 0.2, 0.25), (512, 2048, 8192), ALL),
        ((4.0, 9.123, 9.1), (0.1, 0.2, 0.25), (2048, 8192), NEAR),
        ((4.0, 9.1, 9.1), (0.1, 0.2, 0.2), (2048, 8192), ALIKE),
    ],
)
def test_what_decided_is_said(
    goodput: tuple[float, ...], ttft_s: tuple[float, ...], tied: tuple[int, ...], words: str
) -> None:
    budgets = (512, 2048, 8192)
    goodputs, ttfts_s = dict(zip(budgets, goodput, strict=True)), dict(zip(budgets, ttft_s, strict=True))
    assert tuning_words(Tuned(PLAN, 2048, 64, goodputs, ttfts_s, tied)) == words
