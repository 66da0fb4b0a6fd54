"""Engines with groups of layers in time: one group is the ordinary engine, windows keep every law, spans are steps."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from both_ways import random_case, same_both_ways
from builders import check, colocated, plan, served, stepwise, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import random_rows

from kvsim.plan.engine_settings import KvGroup
from kvsim.plan.plan import Plan
from kvsim.sim.systems.kv_bytes import KvBytes
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem

ALONE = ((KvGroup("full"),), (KvGroup("window", 10**6),))
"""One group that keeps everything."""
TWO = (KvGroup("window", 7), KvGroup("window", 7), KvGroup("full"))


def small(rng: Random, block_size: int, **changes: object) -> Plan:
    chosen = {
        "block_size": block_size,
        "num_blocks": rng.choice([30, 45, 400]),
        "max_model_len": 9 * block_size,
        "max_num_batched_tokens": rng.choice([3, 8, 64]),
        "max_num_seqs": rng.choice([2, 4, 8]),
        "async_scheduling": rng.random() < 0.5,
    }
    return plan(**(chosen | changes))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_one_group_is_the_ordinary_engine(seed: int) -> None:
    for groups in ALONE:
        for kind in (UnifiedSystem, PdSystem):
            rng = Random(seed)
            block_size = rng.choice([2, 4])
            ordinary = stepwise(small(rng, block_size))
            rows = workload(random_rows(rng, block_size))
            grouped = ordinary.with_settings("colocated", "prefill", "decode", kv_groups=groups)
            tables = []
            for each in (ordinary, grouped):
                system = served(kind, colocated(each) if kind is UnifiedSystem else each, rows)
                check(system)
                tables.append(system.requests.table())
            for name, column in tables[0].items():
                assert np.array_equal(column, tables[1][name], equal_nan=True), (name, groups, kind)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_every_law_holds_where_windows_free_blocks(seed: int) -> None:
    rng = Random(seed)
    block_size = rng.choice([2, 4])
    made = small(rng, block_size, kv_groups=TWO)
    rows = workload(random_rows(rng, block_size))
    check(served(UnifiedSystem, colocated(made), rows))
    check(served(PdSystem, made, rows))


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_spans_are_steps(rng: Random) -> None:
    """Every time and every count of a run that leaps is that of one event a step, blocks held over time included."""
    found, requests = random_case(rng)
    groups = rng.choice([TWO, (KvGroup("window", 3),), (KvGroup("state"), KvGroup("chunk", 8), KvGroup("full"))])
    num_blocks = (found.colocated_settings.num_blocks + 2) * len(groups)
    grouped = found.with_settings("colocated", "prefill", "decode", kv_groups=groups, num_blocks=num_blocks)
    same_both_ways(UnifiedSystem, colocated(grouped), requests)
    same_both_ways(PdSystem, grouped, requests)


def test_a_window_s_layers_send_what_it_holds() -> None:
    """100 tokens, 3 bytes a token in all layers, two thirds of them with a window of 10: from token 91 on, that is from
    block 22 on, 12 tokens of those, and 100 of the others."""
    made = plan(kv_groups=(KvGroup("window", 10), KvGroup("full")), block_size=4)
    sent = KvBytes(3.0, made.decode_settings, 2 / 3)
    assert sent.of(100, 0, 100) == pytest.approx(100 + 2 * 12)
    parts = [sent.of(30, first, 100) for first in (0, 30, 60)] + [sent.of(10, 90, 100)]
    assert parts == pytest.approx([30, 30, 30 + 2 * 2, 10 + 2 * 10])
    chunks = plan(kv_groups=(KvGroup("chunk", 40), KvGroup("full")), block_size=4)
    assert KvBytes(3.0, chunks.decode_settings, 2 / 3).of(100, 0, 100) == pytest.approx(100 + 2 * 20)
    assert KvBytes(3.0, plan(block_size=4).decode_settings, 2 / 3).of(100, 0, 100) == 300
