"""Random small systems of every kind of engine that a plan can have."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from both_ways import random_case
from builders import coefficients, colocated

from kvsim.plan.engine_settings import KvGroup, SglangSettings, Speculation
from kvsim.plan.plan import ROLES, Plan
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.lockstep import LockstepStepTime, SharedLayers
from kvsim.steptime.curves.pipeline import PipelineStepTime
from kvsim.steptime.curves.speculative import SpeculativeStepTime
from kvsim.workload.workload import Workload

KINDS = ("plain", "hybrid", "speculative", "radix", "lockstep", "sglang", "pipeline", "adapters")
UNIFIED_ALONE = ("sglang", "pipeline")
"""Kinds that no instance of one role has."""
GROUPS = (
    (KvGroup("window", 7), KvGroup("window", 7), KvGroup("full")),
    (KvGroup("state"), KvGroup("chunk", 8), KvGroup("full")),
)


def case_of(kind: str, rng: Random) -> tuple[Plan, Workload]:
    """A few instances of that kind, and their traffic."""
    found, requests = random_case(rng)
    settings = found.colocated_settings
    match kind:
        case "hybrid":
            groups = rng.choice(GROUPS)
            blocks = (settings.num_blocks + 2) * len(groups)
            return found.with_settings(*ROLES, kv_groups=groups, num_blocks=blocks), requests
        case "speculative":
            return drafting(found, rng), requests
        case "radix":
            return found.with_settings(*ROLES, prefix_cache="radix"), requests
        case "lockstep":
            shared = SharedLayers(((1.0, 0.01), (100.0, 1.0)), 0.1, 0.01, gathers=True)
            steps, own = found.step_time, found.step_time.coefficients
            engine = found.config.engine.model_copy(update={"data_parallel_size": 2, "dp_sync_interval": 4})
            found = replace(found, config=found.config.model_copy(update={"engine": engine}))
            return found.with_instances(step_time=LockstepStepTime(steps, shared, 2, own, (), 1)), requests
        case "sglang":
            policy, blocks = rng.choice(["fcfs", "lpm", "dfs_weight"]), settings.num_blocks + 6
            asked = SglangSettings(enable_mixed_chunk=rng.random() < 0.5, ignore_eos=rng.random() < 0.5)
            chunk = max(settings.max_num_batched_tokens, 2 * settings.block_size)  # a page at least
            own = {"sglang": asked, "prefix_cache": "radix", "scheduling_policy": policy, "num_blocks": blocks}
            return found.with_settings("colocated", max_num_batched_tokens=chunk, **own), requests
        case "pipeline":
            own = tuple(AffineStepTime(coefficients(w0_s=one, w1_s_per_token=0.01)) for one in (0.25, 0.5))
            steps = PipelineStepTime(own, ((0.01, 0.001),), own[0].coefficients)
            return colocated(found).with_instances(step_time=steps).with_settings(
                "colocated", pipeline_parallel=2, scheduling_policy="fcfs"
            ), requests
        case "adapters":
            return found.with_settings(*ROLES, max_loras=rng.choice([1, 2])), requests
    return found, requests


def drafting(found: Plan, rng: Random) -> Plan:
    method, num_tokens = rng.choice(["ngram", "draft_model", "eagle", "mtp"]), rng.randint(1, 3)
    shares = sorted((rng.choice([0.0, 1.0, rng.random()]) for _ in range(num_tokens)), reverse=True)
    asked = Speculation(method, num_tokens, tuple(shares), 0.6 if method == "ngram" else 1.0)
    drafter = None if method == "ngram" else AffineStepTime(coefficients(const_s=0.125))
    times = SpeculativeStepTime(found.step_time, drafter, num_tokens, found.step_time.coefficients)
    settings = found.colocated_settings
    found = found.with_instances(step_time=times).with_settings(
        *ROLES,
        async_scheduling=method != "ngram" and rng.random() < 0.5,
        num_blocks=settings.num_blocks + 4 * num_tokens,
        max_num_batched_tokens=max(settings.max_num_batched_tokens, num_tokens + 3),
    )
    return found.with_settings("colocated", "decode", speculation=asked)
