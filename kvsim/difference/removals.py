"""Causes of TTFT, and systems without them: what is changed so that one of them is gone, and what that leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from kvsim.config import Config
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.sim.systems.given import GivenHeads
from kvsim.steptime.curves.apart import ApartStepTime
from kvsim.units import GB
from kvsim.workload.workload import Ints, Workload

_ENDLESS_GB = 1e21
"""Decimal GB/s at which no transfer that there is moves a simulated clock."""
_SPARE = 1.5
"""Instances for each request that was in flight at a time, to begin with."""
DOUBLINGS = 4
"""How often there are twice as many of them where somebody still waits."""
_NOTHING_S = 1e-9


@dataclass(frozen=True)
class Cause:
    """One thing that TTFT is longer for."""

    name: str
    label: str
    parts: tuple[str, ...]
    """The parts of TTFT that it is: without it they are nothing."""
    what: str
    """What is simulated instead, in a sentence."""
    leaves: str
    """What of it that does not take away, or takes away beside it."""


CAUSES = (
    Cause(
        "link",
        "infinite links",
        ("transfer", "tier_load"),
        "KV moves at once: links between instances, and from and to tiers, have no end of bandwidth and no latency",
        "what is loaded from tiers is decided anew, as loading always pays",
    ),
    Cause(
        "queue",
        "no queue",
        ("queue", "decode_wait"),
        "the cluster so many times side by side that no request waits for a step, a seat or a block, up to "
        f"{_SPARE * 2**DOUBLINGS:g} instances for each request in flight; each request hits what it hit before, and "
        "its KV is where it was",
        "whoever has an instance to itself shares no step either: interference and preemption go too, and what tiers "
        "gave counts as cached",
    ),
    Cause(
        "interference",
        "no interference",
        ("interference",),
        "sequences in a step do not slow each other down: it takes what the one in it takes alone that takes longest",
        "sequences still end their step together: a short chunk beside a long one waits for it",
    ),
    Cause(
        "hits",
        "all hits",
        ("prefill",),
        "all whole blocks of each prompt are in the cache of the instance that computes it as it is queued there",
        "what stands behind a prompt's last whole block is computed, a token at the least",
    ),
)
"""In the order in which they are told."""


@dataclass(frozen=True)
class Altered:
    """What is simulated in place of a system."""

    plan: Plan
    workload: Workload
    given: GivenHeads | None


def why_not(cause: Cause, plan: Plan, system: str) -> str | None:
    """Why a cause is nothing in this system, or cannot be taken away; ``None``: it can."""
    if cause.name == "link" and system != "pd" and not plan.tiers:
        return "nothing moves over links"
    if cause.name == "interference" and plan.colocated_settings.speculation is not None:
        return "not known for steps that verify drafts"
    if cause.name == "interference" and plan.engines_in_step > 1:
        return "not known for engines that take their steps together"
    if cause.name == "interference" and plan.colocated_settings.pipeline_parallel > 1:
        return "not known for pipelines, where steps wait for each other's stages"
    if cause.name == "hits" and not plan.colocated_settings.enable_prefix_caching:
        return "prefix caching is off"
    return None


def without(
    names: frozenset[str], plan: Plan, system: str, workload: Workload, base: SystemResult, copies: int
) -> Altered:
    """The system without the causes of these names. ``base``: what came of it with all of them; ``copies``: of the
    cluster, where nobody is to wait."""
    given, own = None, plan
    if "link" in names:
        plan = _without_links(plan)
    if "interference" in names:
        plan = _apart(plan)
    if "queue" in names:
        plan = _enough(plan, copies)
        heads = _held(base, len(workload), own)
        if "hits" in names:
            heads = GivenHeads(workload.prompt_tokens.astype(np.int64), heads.decode)
        workload, given = _private(workload, np.maximum(heads.prefill, heads.decode)), heads
    elif "hits" in names:
        nothing = np.zeros(len(workload), dtype=np.int64)
        workload, given = _shareable(workload), GivenHeads(workload.prompt_tokens.astype(np.int64), nothing)
    return Altered(plan, workload, given)


def waits(result: SystemResult) -> bool:
    """Whether a request waited for a step, a seat or a block."""
    return any(float(result.table[name].max(initial=0.0)) > _NOTHING_S for name in ("queue_s", "decode_wait_s"))


def first_copies(plan: Plan, system: str, base: SystemResult) -> int:
    """Copies of the cluster to begin with, so that there are more instances than requests were in flight."""
    instances = plan.num_decode if system == "pd" else plan.num_instances
    return max(1, math.ceil(_SPARE * _most_in_flight(base) / max(instances, 1)))


def _most_in_flight(result: SystemResult) -> int:
    table = result.table
    times_s = np.concatenate((table["arrival_s"], table["finish_s"]))
    steps = np.concatenate((np.ones(len(table["arrival_s"])), -np.ones(len(table["finish_s"]))))
    order = np.lexsort((-steps, times_s))
    return int(np.cumsum(steps[order]).max(initial=0))


def _enough(plan: Plan, copies: int) -> Plan:
    routing = plan.config.routing
    decode = routing.decode if routing.decode in ("capacity", "least_loaded") else "least_loaded"
    values = {
        "routing.prefill": "least_loaded", "routing.decode": decode, "routing.index_staleness_ms": 0,
        "routing.cells": None,
    }  # fmt: skip
    plan = replace(plan, config=put_all(plan.config, values), tiers=(), cells=1)
    if not plan.num_decode:
        return plan.of_instances(plan.num_instances * copies)
    instances, prefill, decode_count = plan.num_instances, plan.num_prefill, plan.num_decode
    sized = plan.sized(instances * copies, prefill * copies)
    return replace(sized, num_decode=decode_count * copies)


def _apart(plan: Plan) -> Plan:
    return plan.with_each(lambda own: replace(own, step_time=ApartStepTime(own.step_time)))


def _without_links(plan: Plan) -> Plan:
    rates = dict.fromkeys(
        (
            "hardware.dram.read_gb_per_s",
            "hardware.dram.write_gb_per_s",
            "hardware.dram.host_gb_per_s",
            "hardware.ssd.read_gb_per_s",
            "hardware.ssd.write_gb_per_s",
            "cluster.eic.read_gb_per_s",
            "cluster.eic.write_gb_per_s",
            "cluster.network.nvlink_gb_per_s",
        ),
        _ENDLESS_GB,
    )
    network = ("p2p_rdma", "intra_rack", "cross_rack", "remote_ssd", "nvlink")
    latencies = dict.fromkeys((f"cluster.network.{name}_latency_us" for name in network), 0.0)
    latencies |= dict.fromkeys(("hardware.dram.read_latency_ms", "hardware.ssd.read_latency_ms"), 0.0)
    latencies |= {"cluster.eic.access_latency_ms": 0.0}
    transfer = dict.fromkeys(("rdma_latency_us", "setup_us", "descriptor_us"), 0.0)
    values = rates | latencies | {f"pd_separation.transfer.{key}": value for key, value in transfer.items()}
    config = put_all(plan.config, values | {"pd_separation.transfer.contention": "none"})
    return replace(plan.with_instances(nic_bytes_per_s=_ENDLESS_GB * GB), config=config)


def put_all(config: Config, values: Mapping[str, Any]) -> Config:
    """``config`` with other values at dotted keys, which nobody checks: a system that is not to be had."""
    for key, value in values.items():
        config = _put(config, key.split("."), value)
    return config


def _put(section: Any, path: list[str], value: Any) -> Any:
    assert isinstance(section, BaseModel)
    if len(path) > 1:
        value = _put(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: value})


def _held(base: SystemResult, count: int, plan: Plan) -> GivenHeads:
    """What each request was served with from caches and tiers, and what of its KV the decode instance had.

    With layers that have a window the latter is not told by the bytes that moved, and all of it moves again.
    """
    table, prefill, decode = base.table, np.zeros(count), np.zeros(count)
    ids = table["request_id"].astype(np.int64)
    prefill[ids] = table["hit_tokens"] + table["loaded_tokens"]
    transfer = plan.config.pd_separation.transfer
    if base.transfer is not None and transfer.delta and not plan.decode.settings.kv_groups:
        sent = table["transferred_bytes"] / plan.kv_bytes_per_token
        decode[ids] = np.maximum(table["prompt_tokens"] - np.rint(sent), 0)
    block = plan.spec.block_size_tokens
    return GivenHeads(*((np.rint(side).astype(np.int64) // block * block) for side in (prefill, decode)))


def _private(workload: Workload, heads: Ints) -> Workload:
    """Requests that share nothing, the first ``heads`` tokens of each a chain that a cache can be given."""
    count, prompts = len(workload), workload.prompt_tokens.astype(np.int64)
    heads = np.minimum(heads, prompts)
    own = -1 - np.arange(count, dtype=np.int64)
    chains = np.stack((np.arange(count, dtype=np.int64), own), axis=1).ravel()
    tokens = np.stack((heads, prompts - heads), axis=1).ravel()
    kept = tokens > 0
    return replace(
        workload,
        session_id=np.full(count, -1, dtype=np.int64),
        output_chain=own,
        piece_offsets=np.concatenate(([0], np.cumsum(kept.reshape(count, 2).sum(axis=1)))).astype(np.int64),
        piece_chain=chains[kept],
        piece_tokens=tokens[kept].astype(np.int32),
    )


def _shareable(workload: Workload) -> Workload:
    """All content as it is, in chains that a cache can be given: those of one request alone have numbers above all."""
    first = 1 + max(int(workload.piece_chain.max(initial=-1)), int(workload.output_chain.max(initial=-1)))

    def named(chain: Ints) -> Ints:
        found: Ints = np.where(chain < 0, first - 1 - chain, chain)
        return found

    return replace(workload, piece_chain=named(workload.piece_chain), output_chain=named(workload.output_chain))
