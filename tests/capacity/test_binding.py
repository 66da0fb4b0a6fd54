"""What binds a saturated instance: one cost alone, and twice of it serves twice as much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients, plan

from kvsim.capacity.binding import RESOURCES, Binding, binding_of
from kvsim.capacity.demand import Demand, SharedPrompts
from kvsim.steptime import Coefficients


def equal(prompt_tokens: int, output_tokens: int) -> Demand:
    """Requests of one length, without hits."""
    prompts, outputs = np.full(100, float(prompt_tokens)), np.full(100, float(output_tokens))
    shared = SharedPrompts(np.zeros(0), np.zeros(0), float(prompt_tokens))
    return Demand(prompts, outputs, np.zeros(100), prompts, 0.0, shared)


def found(times: Coefficients, demand: Demand, **settings: object) -> Binding:
    return binding_of(plan(1, 1, times=times, num_blocks=100_000, **settings), demand)


def test_attention_of_prompts_is_compute() -> None:
    binding = found(coefficients(b_s_per_token2=1e-6), equal(1000, 1))
    assert binding.binds == "compute" and binding.gains["compute"] == pytest.approx(2.0)
    assert [binding.gains[name] for name in RESOURCES[1:5]] == pytest.approx([1.0] * 4)
    assert binding.sentence() == (
        "Compute binds: twice as much would serve 2.00 times the requests; twice as much of anything else hardly more."
    )


def test_reading_kv_is_memory_bandwidth() -> None:
    binding = found(coefficients(a_s_per_kv_token=1e-6, a_mixed_s_per_kv_token=1e-6), equal(1000, 100), max_num_seqs=64)
    assert binding.binds == "memory bandwidth" and binding.gains["memory bandwidth"] == pytest.approx(2.0, rel=0.01)
    assert binding.gains["compute"] == pytest.approx(1.0)


def test_a_constant_is_the_host_s_and_seats_share_it() -> None:
    binding = found(coefficients(const_s=0.1), equal(10, 100), max_num_seqs=8)
    assert binding.gains["host"] == pytest.approx(2.0)
    assert binding.gains["seats"] == pytest.approx(2.0, rel=0.03)
    assert binding.gains["KV blocks"] == pytest.approx(1.0, rel=0.01)


def test_few_blocks_bind() -> None:
    many = plan(1, 1, times=coefficients(const_s=0.1), num_blocks=60, max_num_seqs=1000)
    binding = binding_of(many, equal(100, 60))
    assert binding.gains["KV blocks"] > 1.7 and binding.gains["seats"] == pytest.approx(1.0)
    assert binding.binds in ("host", "KV blocks")


def test_few_tokens_a_step_bind() -> None:
    short = found(coefficients(const_s=1.0), equal(100, 11), max_num_batched_tokens=110, max_num_seqs=100)
    assert short.gains["token budget"] == pytest.approx(2.0, rel=0.06)


def test_knots_are_cut_where_the_data_sheet_says_that_weights_or_matrices_are_waited_for() -> None:
    """One token reads weights, thousands are multiplied: of an 8B model on an H100."""
    knots = ((1.0, 0.006), (64.0, 0.006), (8192.0, 0.18))
    times = coefficients(dense_knots=knots)
    prompts, answers = found(times, equal(4000, 1)), found(times, equal(16, 500), max_num_seqs=32)
    assert (prompts.binds, answers.binds) == ("compute", "memory bandwidth")
    assert prompts.gains["compute"] == pytest.approx(2.0, rel=0.02)
    assert answers.gains["memory bandwidth"] == pytest.approx(2.0, rel=0.05)


def test_nothing_gains_where_everything_is_small() -> None:
    gains = dict.fromkeys(RESOURCES, 1.01)
    assert Binding(gains=gains, binds=None).sentence().startswith("Nothing binds alone")
    both = Binding(gains=gains | {"compute": 1.5, "KV blocks": 1.2}, binds="compute")
    assert both.sentence() == (
        "Compute binds: twice as much would serve 1.50 times the requests (others: KV blocks 1.20)."
    )
    assert Binding(gains={"seats": 1.5, "compute": 1.0}, binds="seats").sentence() == (
        "Seats bind: twice as many would serve 1.50 times the requests; twice as much of anything else hardly more."
    )
    assert replace(both, binds=None).binds is None
