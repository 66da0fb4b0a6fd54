"""What engines compute together: shares of an engine that holds all experts, and what exchanges move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import coefficients

from kvsim.spec import MODELS, InstanceSpec, find_gpu
from kvsim.steptime import Efficiencies, roofline
from kvsim.steptime.allreduce import AllReduceLinks
from kvsim.steptime.assemble import Shape
from kvsim.steptime.curves.coefficients import extended
from kvsim.steptime.operators import Operators
from kvsim.steptime.shared_experts import (
    KERNEL_START_S,
    ExchangeLinks,
    alike,
    exchange_of,
    formula_parts,
    table_parts,
)

QWEN = MODELS["qwen3-30b-a3b"]
LINKS = ExchangeLinks(
    collective_s=10e-6, link_bytes_per_s=400e9, nic_bytes_per_s=40e9, rated_nic_bytes_per_s=50e9, gpus_per_host=8
)
EXACT = Efficiencies(1.0, 1.0, 1.0, 1.0, 1.0, AllReduceLinks(8e-6, 1.0, 40e-6, 16e9), 0.0, 0.0)
HIDDEN, LAYERS, TOP, NUM = QWEN.hidden_size, QWEN.num_layers, QWEN.experts_per_token, QWEN.num_experts


def shared(gpus: int, degree: int = 1, dtype: str = "bf16", *, slices: bool = False) -> InstanceSpec:
    found = InstanceSpec(QWEN, find_gpu("h100"), degree, dtype, "bf16", 16, 0.9, 0.0, expert_parallel=gpus)
    return replace(found, slices_experts=slices)


def test_gathering_moves_the_tokens_of_all_others_there_and_back() -> None:
    found = exchange_of(shared(2), "allgather_reducescatter", LINKS)
    layers = found.around(((1.0, 0.0), (2.0, 0.0)))
    assert found.latency_s == pytest.approx(2 * LAYERS * 10e-6)
    # A step of 100 and 30 tokens: the engine with fewer gets 100 and sends their sums back.
    assert layers.exchange_s(130, 100, 30) - found.latency_s == pytest.approx(LAYERS * 100 * HIDDEN * 4 / 400e9)


def test_of_fp8_experts_half_as_much_goes_there() -> None:
    wide, narrow = (exchange_of(shared(2, dtype=dtype), "allgather_reducescatter", LINKS) for dtype in ("bf16", "fp8"))
    assert narrow.s_per_token / wide.s_per_token == pytest.approx(3 / 4)


def test_engines_of_several_gpus_gather_from_each_of_them() -> None:
    """Each of two GPUs has half of its engine's tokens; in slices they have them all already."""
    whole = exchange_of(shared(4, 2), "allgather_reducescatter", LINKS)
    sliced = exchange_of(shared(4, 2, slices=True), "allgather_reducescatter", LINKS)
    assert (whole.own_share, sliced.own_share) == (0.5, 1.0)


def test_naive_sums_are_twice_the_bytes_back() -> None:
    gathered, naive = (exchange_of(shared(2), name, LINKS) for name in ("allgather_reducescatter", "naive"))
    assert naive.s_per_token / gathered.s_per_token == pytest.approx(3 / 2)
    sliced = exchange_of(shared(2, slices=True), "deepep_high_throughput", LINKS)
    assert sliced.gathers
    assert sliced.s_per_token == gathered.s_per_token


def test_backends_send_a_token_once_to_each_gpu_or_once_to_each_expert() -> None:
    by_gpu = exchange_of(shared(8), "deepep_high_throughput", LINKS)
    by_expert = exchange_of(shared(8), "deepep_low_latency", LINKS)
    reached = 7 * (1 - (7 / 8) ** TOP)
    assert by_gpu.s_per_token == pytest.approx(LAYERS * reached * HIDDEN * 4 / 400e9)
    assert by_expert.s_per_token == pytest.approx(LAYERS * TOP * 7 / 8 * HIDDEN * 4 / 400e9)
    assert not by_gpu.gathers
    assert exchange_of(shared(8), "deepep_high_throughput", LINKS, 1.6).received_share == pytest.approx(0.2)


def test_beyond_a_host_the_nics_bind() -> None:
    """Of 16 GPUs on 2 hosts: a GPU's NIC takes an eighth of the other host's tokens in, or its own to the other."""
    gathered = exchange_of(shared(16), "allgather_reducescatter", LINKS)
    assert gathered.s_per_token == pytest.approx(LAYERS * HIDDEN * 4 * max(1 / 400e9, 0.5 / 8 / 40e9))
    by_gpu = exchange_of(shared(16), "deepep_high_throughput", LINKS)
    assert by_gpu.s_per_token == pytest.approx(LAYERS * HIDDEN * 4 * (1 - 0.5**TOP) / 40e9)


@pytest.mark.parametrize("tokens", [1, 7, 64, 300, 5000])
def test_of_the_roofline_each_gpu_takes_its_part(tokens: int) -> None:
    """E (1 - (1 - k/E)^T) experts are read over all GPUs, or computed, and all else on each of them."""
    spec, gpu = shared(2), find_gpu("h100")
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    own, together = formula_parts(alone, spec, EXACT, exchange_of(spec, "naive", LINKS), 1.0)
    read_s = QWEN.expert_bytes("bf16") * (1 - (1 - TOP / NUM) ** (2 * tokens)) / gpu.hbm_bytes_per_s
    computed_s = 2 * 2 * tokens * QWEN.expert_params * TOP / NUM / gpu.peak_flops("bf16")
    whole_s, starts_s = max(read_s, computed_s), LAYERS * KERNEL_START_S
    assert together.experts_s(2 * tokens) == pytest.approx(starts_s + (whole_s - starts_s) / 2, rel=0.01)
    others_s = max(
        QWEN.other_bytes("bf16") / gpu.hbm_bytes_per_s,
        2 * tokens * (QWEN.params - QWEN.expert_params) / gpu.peak_flops("bf16"),
    )
    assert float(extended(np.array([float(tokens)]), own.dense_knots)[0]) == pytest.approx(others_s, rel=0.01)


def test_the_fullest_gpu_has_as_if_all_had_more_tokens() -> None:
    spec = shared(2)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    exchange = exchange_of(spec, "naive", LINKS)
    even, uneven = (formula_parts(alone, spec, EXACT, exchange, factor)[1] for factor in (1.0, 1.5))
    for tokens in (2, 30, 900):
        assert uneven.experts_s(tokens) == pytest.approx(even.experts_s(1.5 * tokens), rel=1e-3)


def test_redundant_experts_are_read_too() -> None:
    """With as many copies as experts, each token's experts are still k; at large batches all copies are read."""
    spec, many = shared(2), replace(shared(2), redundant_experts=NUM)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    exchange = exchange_of(spec, "naive", LINKS)
    plain, doubled = (formula_parts(alone, one, EXACT, exchange, 1.0)[1] for one in (spec, many))
    starts_s = LAYERS * KERNEL_START_S
    read_s = QWEN.expert_bytes("bf16") / find_gpu("h100").hbm_bytes_per_s
    assert plain.experts_s(100) == pytest.approx(starts_s + (read_s - starts_s) / 2, rel=0.01)
    touched = 2 * (1 - (1 - TOP / NUM / 2) ** 100)
    assert doubled.experts_s(100) == pytest.approx(starts_s + (read_s * touched - starts_s) / 2, rel=0.01)
    assert many.loaded_weight_bytes_per_gpu - spec.loaded_weight_bytes_per_gpu == pytest.approx(
        QWEN.expert_bytes("bf16") / 2
    )


def test_measured_times_are_split_as_the_roofline_would_be() -> None:
    """Twice the roofline's times, in knots that hold all: twice its parts."""
    spec = shared(2)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    measured = coefficients(dense_knots=tuple((x, 2 * y) for x, y in alone.dense_knots))
    exchange = exchange_of(spec, "naive", LINKS)
    own, together = formula_parts(measured, spec, EXACT, exchange, 1.0)
    own_once, once = formula_parts(alone, spec, EXACT, exchange, 1.0)
    starts_s = LAYERS * KERNEL_START_S
    for tokens in (1.0, 40.0, 3000.0):
        doubled = 2 * extended(np.array([tokens]), own_once.dense_knots)
        assert extended(np.array([tokens]), own.dense_knots) == pytest.approx(doubled, rel=0.01)
        # The starts are no more for that.
        assert together.experts_s(tokens) == pytest.approx(2 * once.experts_s(tokens) - starts_s / 2, rel=0.01)


def test_what_was_measured_of_parts_of_a_token_says_nothing_of_all_else() -> None:
    """Experts of an eighth of a token are hardly any, so that a knot there would be all else's."""
    spec = shared(2)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    more = replace(alone, dense_knots=((0.125, 0.9 * alone.dense_knots[0][1]), *alone.dense_knots))
    exchange = exchange_of(spec, "naive", LINKS)
    assert formula_parts(more, spec, EXACT, exchange, 1.0)[0] == formula_parts(alone, spec, EXACT, exchange, 1.0)[0]


def test_an_engine_of_several_gpus_saves_half_an_all_reduce_a_layer() -> None:
    spec = shared(4, 2)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    exchange = exchange_of(spec, "naive", LINKS)
    own, _ = formula_parts(alone, spec, EXACT, exchange, 1.0)
    assert own.comm0_s == pytest.approx(alone.comm0_s * 3 / 4)
    sliced, _ = formula_parts(alone, shared(4, 2, slices=True), EXACT, exchange, 1.0)
    assert sliced.comm0_s == alone.comm0_s
    measured = coefficients(dense_knots=tuple((x, y + 1.0) for x, y in alone.dense_knots))
    saved_s = LAYERS / 2 * (8e-6 + 64 * HIDDEN * 2 * 1 / 450e9)
    found = [formula_parts(measured, one, EXACT, exchange, 1.0)[0] for one in (spec, shared(4, 2, slices=True))]
    places = np.array([64.0])
    lower, whole = (extended(places, one.dense_knots)[0] for one in found)
    assert whole - lower == pytest.approx(saved_s, rel=0.02)


def test_the_nearest_formula_is_of_engines_alike() -> None:
    spec = shared(2)
    alone = roofline(replace(spec, expert_parallel=1), EXACT)
    own, together = formula_parts(alone, spec, EXACT, exchange_of(spec, "naive", LINKS), 1.0)
    whole = alike(own, together, 2)
    for tokens in (1.0, 16.0, 200.0, 4000.0):
        found = extended(np.array([tokens]), whole.dense_knots)[0]
        parts = extended(np.array([tokens]), own.dense_knots)[0] + together.seconds(2 * tokens, tokens, tokens)
        assert found == pytest.approx(parts, rel=1e-3)


def test_tables_are_read_at_a_gpus_part_of_the_tokens_and_of_the_experts() -> None:
    """Seconds of one layer are 1e-6 tokens + 1e-5 experts: 20 tokens on 2 GPUs are 10 on each."""
    rows = np.array([[t, e, 1e-6 * t + 1e-5 * e] for t in (1.0, 1000.0) for e in (1.0, 64.0)])
    operators = Operators(dense={}, per_sequence={}, attention=np.zeros((0, 5)), moe=rows)
    shape = Shape(
        num_layers=LAYERS, kv_heads_per_gpu=4.0, num_sms=132, allreduce_s=None, straggler_s_per_token=0.0, host_s=0.0,
        host_s_per_seq=0.0, experts_on_rank=NUM / 2, expert_share=TOP / NUM, expert_parallel=2,
    )  # fmt: skip
    exchange = exchange_of(shared(2), "naive", LINKS)
    found = table_parts(operators, shape, shared(2), exchange, 1.0)
    touched = 64 * (1 - (1 - TOP / NUM) ** 20)
    assert found.experts_s(20) == pytest.approx(LAYERS * (1e-6 * 10 + 1e-5 * touched), rel=0.01)
    fuller = table_parts(operators, shape, shared(2), exchange, 2.0)
    assert fuller.experts_s(10) == pytest.approx(found.experts_s(20))
