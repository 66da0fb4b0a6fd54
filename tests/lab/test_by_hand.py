"""The labs' own small models, against calculations by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvsim.lab.breakdown import ALLREDUCE, GROUPS, batch_of, grouped_s
from kvsim.lab.course.w03 import product_intensity
from kvsim.lab.course.w04 import MemoryRow, _pages, _power_of_two, _sentence, kept
from kvsim.lab.course.w06 import most_hits
from kvsim.lab.course.w07 import counted
from kvsim.lab.course.w08 import longest_gaps
from kvsim.lab.course.w10 import eager_s
from kvsim.lab.course.w12 import _is_pareto, _is_unbeaten
from kvsim.lab.course.w14 import touched
from kvsim.lab.lab import explained
from kvsim.lab.words import H100, VLLM_LLAMA
from kvsim.steptime.batch import Batch, Decodes, PromptChunk


def test_a_product_does_two_flops_a_weight_and_row() -> None:
    # 2 x 2 x 2 = 8 products and as many sums over 12 values of two bytes.
    assert product_intensity(2, 2, 2) == pytest.approx(16 / 24)
    assert product_intensity(1, 4096, 4096) == pytest.approx(1, rel=1e-3)
    assert product_intensity(2048, 4096, 4096) == 1024


def test_a_decode_step_has_the_flops_and_bytes_of_llama(rows_of: Callable[..., list[Any]]) -> None:
    products = 32 * (4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336) + 4096 * 128256
    for row in rows_of("w03"):
        flops = row.batch * (2 * products + 4 * 32 * 32 * 128 * 1024)
        num_bytes = 2 * products + row.batch * 1024 * 32 * 2 * 8 * 128 * 2
        # Beside weights and KV there are hidden states and logits, of a few MB a sequence.
        assert flops / num_bytes * 0.9 < row.intensity < flops / num_bytes * 1.001
        assert row.rule_ms == 8 and row.measured_ms > row.limit_ms
        assert row.product_intensity == pytest.approx(row.batch, rel=0.03)


def test_memory_that_holds_nothing_by_hand() -> None:
    prompts, answers = np.array([5], dtype=np.int32), np.array([3], dtype=np.int32)
    # It holds 6, 7 and 8 tokens.
    assert kept(prompts, answers, lambda held, most: np.full_like(held, most)) == (21, 24)
    assert kept(prompts, answers, _pages(4)) == (21, 24)
    assert kept(prompts, answers, _pages(1)) == (21, 21)
    # Three tokens of answer are rounded up to four.
    assert kept(prompts, answers, _power_of_two) == (21, 27)
    both = kept(np.array([5, 1], dtype=np.int32), np.array([3, 1], dtype=np.int32), _pages(4))
    assert both == (23, 28)


@pytest.mark.parametrize(
    ("tokens_per_s", "preemptions", "told"),
    [
        # More seats may do with fewer preemptions.
        ((50.0, 99.5, 100.0), (0, 9, 7), "32 reach 99.5 tokens/s with 9 preemptions, and 64 100 tokens/s with 7 preem"),
        ((50.0, 80.0, 100.0), (0, 2, 7), "64 reach 100 tokens/s with 7 preemptions (ShareGPT"),
    ],
)
def test_what_seats_buy_is_said_of_each(tokens_per_s: list[float], preemptions: list[int], told: str) -> None:
    def row(sweep: str, setting: str, **others: float | None) -> MemoryRow:
        empty = {"waste_share": None, "output_tokens_per_s": None, "preemptions": None}
        return MemoryRow(sweep=sweep, setting=setting, requests_at_once=1.0, **{**empty, **others})  # type: ignore[arg-type]

    rows = [row("allocation", name, waste_share=0.5) for name in ("whole: 2,048 tokens", "pages of 16")]
    served = zip(("16", "32", "64"), tokens_per_s, preemptions, strict=True)
    rows += [row("max-num-seqs", seats, output_tokens_per_s=speed, preemptions=lost) for seats, speed, lost in served]
    assert told in _sentence(rows)


def test_three_answers_on_two_seats_by_hand() -> None:
    # Static: 2 and 6 together for six steps, then 3 alone. At once: 3 begins as 2 ends.
    assert counted([2, 6, 3], 2, "static") == (9, 11)
    assert counted([2, 6, 3], 2, "continuous") == (6, 11)
    assert counted([4, 4, 4, 4], 2, "static") == counted([4, 4, 4, 4], 2, "continuous") == (8, 16)
    assert counted([1], 8, "static") == (1, 1)


def test_what_can_be_hit_of_questions_on_tasks() -> None:
    assert most_hits(1) == pytest.approx(0, abs=1e-9)
    # Two questions are on one task with a chance of one in forty.
    assert most_hits(2) == pytest.approx(1 / 40 * 1500 / 3200)
    assert most_hits(10**6) == pytest.approx(1500 / 1600, rel=1e-3)


def test_the_longest_gap_of_each_half_second() -> None:
    gaps = np.array([[0.1, 0.02], [0.4, 0.05], [1.2, 0.03]])
    assert longest_gaps(gaps) == ([0.5, 1.0, 1.5], [50.0, 0.0, 30.0])


def test_an_eager_step_is_the_slower_of_gpu_and_host() -> None:
    assert eager_s(0.002, 300, 30e-6) == pytest.approx(0.009)
    assert eager_s(0.02, 300, 30e-6) == 0.02


def test_what_nothing_beats() -> None:
    speeds, accuracies = [(1.0, 5.0), (2.0, 9.0), (3.0, 5.0)], [1.0, 1.0, 0.9]
    assert [_is_pareto(place, speeds, accuracies) for place in range(3)] == [False, True, True]
    for load, unbeaten in ((0, [False, True, True]), (1, [False, True, False])):
        one_load = [speed[load] for speed in speeds]
        assert [_is_unbeaten(place, one_load, accuracies) for place in range(3)] == unbeaten


def test_experts_that_are_touched() -> None:
    assert touched(1) == pytest.approx(2)
    # Of one token's two and another's two, half of a fourth are the same.
    assert touched(2) == pytest.approx(2 + 2 * 6 / 8)
    assert touched(1000) == pytest.approx(8)


@pytest.mark.parametrize("tokens", [1, 64, 2048])
def test_all_reduces_by_hand(tokens: int) -> None:
    explainer = explained(f"{VLLM_LLAMA} --tensor-parallel-size 4", H100, "steptime.method=roofline")
    batch = Batch((), (PromptChunk(tokens),)) if tokens > 64 else Batch((Decodes(tokens, 1024),))
    found = explainer.explain(batch)
    parts = grouped_s(found)
    assert sum(parts.values()) == pytest.approx(found.time_s) and set(parts) == set(GROUPS)
    settings = explainer.loaded.config.steptime
    # Two a layer and one of the embedding; what each GPU sends of a ring: 2 x 3 / 4 of the hidden states.
    num_bytes = 2 * 3 / 4 * tokens * 4096 * 2
    each_s = settings.allreduce_latency_us * 1e-6 + num_bytes / (450e9 * settings.allreduce_efficiency)
    assert parts[ALLREDUCE] == pytest.approx((2 * 32 + 1) * each_s, rel=0.02)


def test_a_span_of_steps_is_explained_by_its_mean() -> None:
    row = {"decode_seqs": 2, "kv_tokens": 4 * 2 * 100, "num_steps": 4, "prefill_seqs": 0, "prefill_tokens": 0}
    assert batch_of(row) == Batch((Decodes(2, 100),))
    row = {"decode_seqs": 0, "kv_tokens": 0, "num_steps": 1, "prefill_seqs": 3, "prefill_tokens": 100}
    assert batch_of(row) == Batch((), (PromptChunk(34), PromptChunk(33), PromptChunk(33)))
