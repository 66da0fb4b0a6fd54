"""Speculative decoding as the configuration describes it: acceptances, drafters, their size and their time."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from places import REPOSITORY

from kvsim.capacity.decoding import Decoding, mixed_s, pure_s
from kvsim.config import load_config
from kvsim.config.effect import without_effect
from kvsim.errors import ConfigError
from kvsim.plan.acceptance import PUBLISHED, published_for
from kvsim.plan.engine_settings import SPECULATIVE_METHODS, Speculation
from kvsim.plan.instance import Instance, instance_of
from kvsim.plan.unmodelled import unmodelled
from kvsim.spec import find_model
from kvsim.spec.drafter import multi_token_prediction
from kvsim.steptime.curves.speculative import SpeculativeStepTime

ALONE = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")


def config_of(*words: str) -> Any:
    return load_config(sets=(*ALONE, *(f"engine.speculative.{word}" for word in words)), mode="instance").config


def instance(*words: str) -> Instance:
    return instance_of(config_of(*words))


def shares_of(*words: str) -> tuple[float, ...]:
    speculation = instance(*words).settings.speculation
    assert speculation is not None
    return speculation.acceptance


def test_one_share_is_each_draft_s_and_several_are_by_position() -> None:
    assert shares_of("method=eagle", "acceptance=0.5") == (0.5, 0.25, 0.125)
    assert shares_of("method=eagle", "acceptance=[0.9,0.5,0.5]") == (0.9, 0.5, 0.5)
    assert shares_of("method=eagle3") == PUBLISHED["eagle3/mt-bench"].by_position[:3]
    longer = shares_of("method=eagle3", "num_speculative_tokens=12", "acceptance_of=eagle3/math")
    assert len(longer) == 12
    assert all(high >= low > 0 for high, low in pairwise(longer))


def test_every_method_has_figures_and_their_source() -> None:
    for method in SPECULATIVE_METHODS:
        for drafts in (1, 5, 20):
            published = PUBLISHED[published_for(method, drafts)]
            assert len(published.of(drafts)) == drafts
            assert published.measured_on
            assert published.source
    assert (published_for("mtp", 1), published_for("mtp", 3)) == ("mtp/deepseek-r1", "mtp/deepseek-v3")


def test_where_acceptance_is_not_given_it_is_said_whose_it_is() -> None:
    (sentence,) = unmodelled(config_of("method=eagle3"))
    assert (
        "eagle3/mt-bench (Llama-3.1-8B-Instruct, MT-Bench, greedy; github.com/vllm-project/vllm pull 26498)" in sentence
    )
    assert unmodelled(config_of("method=eagle3", "acceptance=0.7")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=medusa"], "engine.speculative.method = 'medusa'"),
        (
            ["method=eagle", "num_speculative_tokens=0"],
            "num_speculative_tokens = 0: must be greater than or equal to 1",
        ),
        (["method=eagle", "acceptance=1.5"], r"acceptance\[0\] = 1.5"),
        (["method=eagle", "acceptance=[0.5,0.6,0.1]"], "must never rise"),
        (["method=eagle", "acceptance=[0.5,0.4]"], "has 2 shares beside .*num_speculative_tokens = 3"),
        (["method=eagle", "acceptance_of=eagle/chat"], "acceptance_of = 'eagle/chat': must be one of eagle3/mt-bench"),
        (["method=eagle", "model=llama-3.2-1b"], "must be null unless the method is draft_model"),
        (["method=draft_model"], "engine.speculative.model is missing: must name the draft model"),
        (["method=draft_model", "model=llama-9"], "engine.speculative.model: unknown model 'llama-9'"),
        (["method=eagle", "draft_tensor_parallel_size=2"], "draft_tensor_parallel_size = 2: must be 1 or 1"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        instance(*words)
    assert "\n" not in str(found.value)


def test_n_gram_is_not_scheduled_ahead_and_steps_hold_a_sequence_s_drafts() -> None:
    with pytest.raises(ConfigError, match=r"must be false with engine\.speculative\.method = ngram"):
        load_config(sets=(*ALONE, "engine.speculative.method=ngram", "engine.async_scheduling=true"))
    with pytest.raises(ConfigError, match="must be above 5, what one sequence with 3 drafts takes"):
        load_config(
            sets=(
                *ALONE,
                "engine.speculative.method=draft_model",
                "engine.speculative.model=llama-3.2-1b",
                "engine.max_num_batched_tokens=5",
                "engine.max_num_seqs=5",
                "engine.tune_colocated_budget=false",
            )
        )


def test_a_head_takes_memory_and_a_layer_of_kv() -> None:
    """An EAGLE-3 head on Llama-3.1-8B: 32 + 16 heads' projections of two vectors, three MLP matrices, a projection of
    three vectors and 32,000 outputs; KV of a 33rd layer.
    """
    plain, drafting = instance().spec, instance("method=eagle3").spec
    params = 48 * 128 * 8192 + 4096 * 4096 + 3 * 4096 * 14336 + 3 * 4096 * 4096 + 32000 * 4096
    assert drafting.loaded_weight_bytes_per_gpu - plain.loaded_weight_bytes_per_gpu == 2 * params
    assert drafting.cached_bytes_per_token == plain.kv_bytes_per_token * 33 / 32
    room_bytes = plain.kv_room_bytes - 2 * params
    assert drafting.num_blocks == int(room_bytes // (16 * drafting.cached_bytes_per_token))
    assert instance("method=ngram").spec.num_blocks == plain.num_blocks


def test_a_draft_model_brings_its_own() -> None:
    one, drafting = find_model("llama-3.2-1b"), instance("method=draft_model", "model=llama-3.2-1b").spec
    assert drafting.drafter is not None
    assert drafting.drafter.weight_bytes_per_gpu == 2 * one.params
    assert drafting.cached_bytes_per_token - drafting.kv_bytes_per_token == one.kv_bytes_per_token("bf16")


def test_deepseek_s_module_has_the_size_that_its_authors_give() -> None:
    """README_WEIGHTS of DeepSeek-V3: 11.5 B parameters of its own."""
    module = multi_token_prediction(find_model("deepseek-v3"), "fp8", 8)
    assert module.loaded_params == pytest.approx(11.5e9, rel=0.02)


def test_drafting_takes_passes_and_n_gram_none() -> None:
    plain = instance("method=ngram").step_time
    assert isinstance(plain, SpeculativeStepTime)
    alone_s = plain.target.decode_alone_s(1000)
    assert plain.decode_alone_s(1000) == pytest.approx(alone_s, rel=0.06)
    head, larger = instance("method=eagle3").step_time, instance("method=draft_model", "model=llama-3.2-1b").step_time
    assert alone_s + 3 * 300e-6 < head.decode_alone_s(1000) < larger.decode_alone_s(1000)


def test_tokens_a_step_and_what_goes_beyond_an_end() -> None:
    asked = Speculation("eagle", 2, (0.5, 0.5))
    assert asked.tokens_per_step == 2.0
    # One token or three, each as often: E X^2 = 5, E X = 2.
    assert asked.overshoot_tokens == (5 - 2) / (2 * 2)


def test_what_is_not_looked_at_is_said() -> None:
    keys = without_effect(config_of("num_speculative_tokens=5"), "predict")
    assert "engine.speculative" in keys
    assert "engine.speculative.pass_overhead_us" in without_effect(
        config_of("method=ngram", "pass_overhead_us=1"), "predict"
    )


@pytest.mark.parametrize("words", [("method=ngram",), ("method=eagle3",), ("method=draft_model", "model=llama-3.2-1b")])
def test_the_formula_for_arithmetic_is_near_the_steps(words: tuple[str, ...]) -> None:
    """Steps that only decode, and steps beside a prompt, within a pass's reading or computing, whichever is less."""
    times = instance(*words).step_time
    assert isinstance(times, SpeculativeStepTime)
    for decodes in (1, 32, 200):
        kv_tokens, drafts = decodes * 800, 3 * decodes
        decoding = Decoding(*map(np.array, (float(decodes), 800.0, 800.0)))
        exact_s = times.step_s(0, 0, decodes, drafts, kv_tokens, 800, 0.0, 0.0)
        assert float(pure_s(times.coefficients, decoding)) == pytest.approx(exact_s, rel=0.08)
        work, draft_work = times.chunk_work(2000, 0), times.draft_work(2000, 0)
        exact_s = times.step_s(2000, 1, decodes, drafts, kv_tokens, 800, work, draft_work)
        c = times.coefficients
        mixed = float(mixed_s(c, decoding, np.array(2000.0))) + c.s_s_per_seq + c.b_s_per_token2 * work
        assert mixed == pytest.approx(exact_s, rel=0.05)


def test_the_page_has_all_figures_and_their_first_share() -> None:
    page = (REPOSITORY / "docs/speculation.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w/-]+)` \| (\.\d+)", page, re.MULTILINE))
    assert rows.keys() == PUBLISHED.keys()
    assert all(float(rows[name]) == round(PUBLISHED[name].by_position[0], 2) for name in rows)
