"""A hundred small systems, each against a second model that shares nothing with kvsim but the step times."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random

import numpy as np
import pytest
from block_by_block import NaiveRequest
from builders import KV_BYTES_PER_TOKEN, Row, by_request, coefficients, plan, served, workload
from naive_instance import Setup
from pd_model import Model

from kvsim.plan.plan import Plan
from kvsim.sim.systems.pd import PdSystem

TIMES = {"w0_s": 0.011, "p1_s_per_token": 0.0007, "const_s": 0.0013, "a_s_per_kv_token": 3e-5}


def step_s(tokens: int, kv_tokens: int) -> float:
    """Of so many tokens, of which those that decode read so many tokens of KV."""
    dense_s = max(TIMES["w0_s"], TIMES["p1_s_per_token"] * tokens)
    return dense_s + TIMES["const_s"] + TIMES["a_s_per_kv_token"] * kv_tokens


def random_rows(rng: Random, most_tokens: int) -> list[Row]:
    """Prompts that begin with the head of one of two texts, or with all of it and the head of what goes on there."""
    lengths = [rng.randint(1, most_tokens // 3) for _ in range(4)]
    rows, now = [], 0.0
    for number in range(rng.randint(4, 16)):
        now += rng.choice((0.0, 0.0, 0.0, rng.expovariate(20), rng.expovariate(3)))
        text, kind = rng.randrange(2), rng.randrange(3)
        pieces = [(text, lengths[text] if kind == 2 else rng.randint(1, lengths[text]))][:kind]
        if kind == 2:
            pieces.append((2 + text, rng.randint(1, lengths[2 + text])))
        pieces.append((-1 - number, rng.randint(most_tokens // 8, most_tokens // 3)))
        rows.append(Row(now, 0, rng.randint(1, 30), tuple(pieces)))
    return rows


def random_system(rng: Random) -> tuple[Plan, Setup, list[Row]]:
    """Pools in which prompts collide and answers grow into each other, NICs slower and faster than prompts."""
    size, most_tokens = rng.choice((4, 8, 16)), rng.randint(80, 160)
    prompt_blocks, least_blocks = most_tokens // size + 1, (most_tokens + 30) // size + 1
    num_instances = rng.choice(((1, 1), (2, 1), (3, 1), (1, 2), (2, 2)))
    num_blocks = rng.randint(prompt_blocks, 4 * prompt_blocks // 3), rng.randint(least_blocks, 2 * least_blocks)
    if num_instances[1] > 1:
        num_blocks = num_blocks[0], 20 * least_blocks
    latency_us, pulls = rng.choice((0, 700)), rng.random() < 0.5
    setup = Setup(
        num_instances=num_instances,
        num_blocks=num_blocks,
        seats=(rng.choice((2, 64, 64)), 64),
        budget_tokens=(rng.choice((16, 60, 120)), 64),
        most_of_prompt=rng.choice((0, 13, 29)),
        block_size=size,
        token_bytes=KV_BYTES_PER_TOKEN,
        nic_bytes_per_s=10 ** rng.uniform(5, 7),
        landing_s=latency_us * 1e-6 * (3 if pulls else 1),
        forwards_first_token=rng.random() < 0.5,
        overlaps=rng.random() < 0.8,
        reservation_tokens=rng.choice((0, 12)),
        step_s=step_s,
    )
    sets = (
        "routing.prefill=round_robin",
        "routing.decode=round_robin",
        f"pd_separation.first_token={'prefill' if setup.forwards_first_token else 'decode'}",
        f"pd_separation.transfer.pipelining={str(setup.overlaps).lower()}",
        f"pd_separation.transfer.strategy={'pull' if pulls else 'push'}",
        f"cluster.network.p2p_rdma_latency_us={latency_us}",
    )
    return plan_of(setup, sets), setup, random_rows(rng, most_tokens)


def plan_of(setup: Setup, sets: tuple[str, ...]) -> Plan:
    times = coefficients(**TIMES, a_mixed_s_per_kv_token=TIMES["a_s_per_kv_token"])
    common = {"block_size": setup.block_size, "long_prefill_token_threshold": setup.most_of_prompt}
    found = plan(*setup.num_instances, sets=sets, times=times, nic_bytes_per_s=setup.nic_bytes_per_s, **common)
    own = [
        {"num_blocks": num_blocks, "max_num_seqs": seats, "max_num_batched_tokens": budget_tokens}
        for num_blocks, seats, budget_tokens in zip(setup.num_blocks, setup.seats, setup.budget_tokens, strict=True)
    ]
    found = found.with_settings("decode", **own[1], output_margin_tokens=setup.reservation_tokens)
    return found.with_settings("prefill", **own[0])


def requests_of(rows: list[Row]) -> list[NaiveRequest]:
    requests = []
    for number, row in enumerate(rows):
        tokens: list[Hashable] = [(chain, place) for chain, count in row.pieces for place in range(count)]
        answer = [(number, "answer", place) for place in range(row.output_tokens)]
        requests.append(NaiveRequest(number, row.arrival_s, tokens + answer, len(tokens)))
    return requests


@pytest.mark.parametrize("seed", range(100))
def test_every_time_and_every_byte_agree(seed: int) -> None:
    found, setup, rows = random_system(Random(seed))
    table, model = by_request(served(PdSystem, found, workload(rows))), Model(setup, requests_of(rows))
    assert table["request_id"].tolist() == list(range(len(rows)))
    for column, expected in (
        ("first_token_s", model.first_s),
        ("finish_s", model.finish_s),
        ("transferred_bytes", model.moved_bytes),
    ):
        np.testing.assert_allclose(table[column], expected, rtol=0, atol=1e-6, err_msg=column)


def test_the_hundred_contain_what_matters() -> None:
    """Waits for room, cancelled transfers, preempted answers, several copies of a head, heads that need not be sent."""
    waits = cancelled = preempted = copies = spared = 0
    for seed in range(100):
        _, setup, rows = random_system(Random(seed))
        model = Model(setup, requests_of(rows))
        waits += model.num_waits > 0
        cancelled += model.num_cancelled > 0
        preempted += any(instance.preemptions for instance in model.sides[1])
        copies += any(instance.pool.duplicates for instance in model.sides[1])
        needed_bytes = sum(count for row in rows for _, count in row.pieces) * KV_BYTES_PER_TOKEN
        spared += sum(model.moved_bytes) < needed_bytes
    assert min(waits, preempted, copies, spared) >= 10 and cancelled >= 5, (waits, cancelled, preempted, copies, spared)
