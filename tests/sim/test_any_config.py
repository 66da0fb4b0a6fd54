"""What holds for any settings of ``cache``, ``engine`` and ``routing``.

Leaps give what single steps give, and time has no unit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from random import Random
from typing import Any

import numpy as np
from any_config import some_settings
from both_ways import random_times, same_both_ways
from builders import Row, by_request, served, workload
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from traffic import most_blocks, random_rows

from kvsim.config import dump, load_config
from kvsim.errors import KvsimError
from kvsim.plan.plan import Plan, make_plan
from kvsim.sim.network.build_network import host_link_bytes_per_s
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.speculative import SpeculativeStepTime
from kvsim.workload.workload import Workload

SMALL = {"engine.block_size": 4, "cache.chunk_tokens": 8, "engine.max_num_batched_tokens": 64, "engine.max_num_seqs": 8}
TOKEN_GB = 131_072 / 1e9
"""Of Llama-3.1-8B: 2 x 32 layers x 8 KV heads x 128 x 2 bytes."""


def cluster(rng: Random) -> dict[str, Any]:
    """Up to four instances of one GPU, or one of eight, on a network of which some is slow."""
    return {
        "model.name": "llama-3.1-8b",
        "engine.tensor_parallel_size": 1,
        "cluster.simulate_racks": 1,
        "cluster.simulate_gpus_per_rack": 8,
        "cluster.network.gpus_per_host": rng.choice([1, 8]),
        "cluster.network.p2p_rdma_gb_per_s": rng.choice([50.0, 1e-3]),
        "load.warm_caches": False,
        "pd_separation.pd_ratio": rng.choice([[1, 1], [1, 3], [3, 1]]),
        "pd_separation.output_margin_tokens": rng.choice([0, 2, 8]),
    }


def tier_sizes(rng: Random, chunk_tokens: int) -> dict[str, Any]:
    """Of a few chunks each, and some so slow that a chunk takes about a second."""
    chunk_gb = chunk_tokens * TOKEN_GB
    return {
        "hardware.dram.capacity_gb": chunk_gb * rng.randint(1, 12),
        "cluster.eic.capacity_per_node_gb": chunk_gb * rng.randint(1, 6),
        "hardware.ssd.capacity_gb": chunk_gb * rng.randint(4, 20),
        "hardware.dram.host_gb_per_s": rng.choice([300.0, chunk_gb]),
        "cluster.eic.read_gb_per_s": rng.choice([200.0, chunk_gb]),
        "hardware.ssd.read_gb_per_s": rng.choice([50.0, chunk_gb]),
    }


def traffic(rng: Random, given: dict[str, Any]) -> list[Row]:
    """Prompts of a few blocks or chunks, and answers of a few tokens."""
    size = min(given[rng.choice(["engine.block_size", "cache.chunk_tokens"])], 64)
    rows = [replace(row, output_tokens=rng.randint(1, 40)) for row in random_rows(rng, size, most=12)]
    if given.get("engine.scheduling_policy") == "priority":
        # Of one priority and arrival two could preempt each other for ever, as in vLLM.
        return [replace(row, arrival_s=row.arrival_s + i / 1024) for i, row in enumerate(rows)]
    return rows


def case(rng: Random, chosen: dict[str, Any]) -> tuple[Plan, Workload]:
    """A small cluster with these settings, tiers of ``cache.tiers`` behind it. Raises ``KvsimError`` for bad ones."""
    given = SMALL | chosen
    rows = traffic(rng, given)
    need = most_blocks(rows, given["engine.block_size"]) + 2
    base = cluster(rng) | tier_sizes(rng, given["cache.chunk_tokens"])
    base["engine.num_gpu_blocks_override"] = need + rng.randint(0, need)
    if not given.get("engine.enable_chunked_prefill", True):
        given |= whole_prompts(rows)
    found = tiered_plan(base | given)
    if rng.random() < 0.7:
        found = found.with_instances(step_time=AffineStepTime(random_times(rng)))
    return found, workload(rows)


def whole_prompts(rows: list[Row]) -> dict[str, Any]:
    """Steps that hold any of these prompts, which are not cut."""
    prompts = (sum(tokens for _, tokens in row.pieces) or row.prompt_tokens for row in rows)
    longest = max(prompts) + max(row.output_tokens for row in rows)
    return {
        "model.max_model_len": longest,
        "engine.max_num_batched_tokens": max(longest, SMALL["engine.max_num_seqs"]),
        "engine.max_num_seqs": SMALL["engine.max_num_seqs"],
        "engine.tune_colocated_budget": False,
    }


def tiered_plan(given: dict[str, Any]) -> Plan:
    config = load_config(sets=[f"{key}={json.dumps(value)}" for key, value in given.items()]).config
    return replace(make_plan(config), tiers=config.cache.tiers, num_instances=min(config.cache.num_workers, 4))


TIES = 611, 1133
"""Two engines end steps at one instant, and both meet a tier, or are known for what they have computed."""
RESUMED = 542
"""A preempted request finds chunks of its own answer in a tier."""


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@example(chosen={}, seed=TIES[0])
@example(chosen={}, seed=TIES[1])
@example(chosen={"engine.speculative.method": "eagle3"}, seed=3)
@example(chosen={"cache.connector": "offloading"}, seed=RESUMED)
@given(chosen=some_settings(("cache", "engine", "routing"), most=8), seed=st.integers(0, 1 << 32))
def test_leaps_give_what_single_steps_give(chosen: dict[str, Any], seed: int) -> None:
    try:
        found, requests = case(Random(seed), chosen)
        UnifiedSystem(found, requests, 1)
        PdSystem(found, requests, 1)
    except KvsimError:
        assume(False)
    same_both_ways(UnifiedSystem, found, requests)
    same_both_ways(PdSystem, found, requests)


def half_as_fast(plan: Plan) -> Plan:
    """Everything that takes a time takes twice as long, by the units in the names of keys."""
    slow: dict[str, Any] = {}
    for key, value in flat(dump(plan.config)):
        if key.endswith(("_per_s", ".qps")) and value is not None:
            slow[key] = value / 2
        elif key.endswith(("_s", "_ms", "_us")) and value is not None:
            slow[key] = 2 * value
        else:
            slow[key] = value
    # Its default is the GPU's own link, either direction of which has half of what the key means.
    slow["cluster.network.nvlink_gb_per_s"] = host_link_bytes_per_s(plan) / 1e9
    steps = plan.step_time
    if not isinstance(steps, SpeculativeStepTime):
        return tiered_plan(slow).with_instances(step_time=slowed(steps))
    drafter = None if steps.drafter is None else slowed(steps.drafter)
    both = SpeculativeStepTime(slowed(steps.target), drafter, steps.num_tokens, steps.coefficients)
    return tiered_plan(slow).with_instances(step_time=both)


def slowed(steps: AffineStepTime) -> AffineStepTime:
    c = steps.coefficients
    twice = {each.name: 2 * getattr(c, each.name) for each in fields(c) if re.search("_s(_per|$)", each.name)}
    _, (_, capture_sizes) = steps.__reduce__()
    return AffineStepTime(replace(c, **twice), capture_sizes)


def flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(chosen=some_settings(("cache", "engine", "routing"), most=8), seed=st.integers(0, 1 << 32))
def test_half_as_fast_takes_twice_as_long(chosen: dict[str, Any], seed: int) -> None:
    try:
        found, requests = case(Random(seed), chosen)
        found = found.with_instances(step_time=AffineStepTime(random_times(Random(seed))))
        UnifiedSystem(found, requests, 1)
        PdSystem(found, requests, 1)
    except KvsimError:
        assume(False)
    slower, later = half_as_fast(found), replace(requests, arrival_s=2 * requests.arrival_s)
    for system in (UnifiedSystem, PdSystem):
        table = by_request(served(system, found, requests))
        slow = by_request(served(system, slower, later))
        for name, column in table.items():
            factor = 2.0 if name.endswith("_s") else 1.0
            np.testing.assert_allclose(slow[name], factor * column, rtol=1e-9, atol=1e-9, err_msg=name)
