"""A few instances of any settings with tiers behind them, and traffic that needs these."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

from both_ways import random_times
from builders import Row, workload
from traffic import most_blocks, random_rows

from kvsim.config import load_config
from kvsim.plan.plan import Plan, make_plan
from kvsim.steptime import AffineStepTime
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
    """Tiers of a few chunks each, and some so slow that a chunk takes about a second."""
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
