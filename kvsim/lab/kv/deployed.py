"""What a server's line starts: its plan, and the facts that the arithmetic of hits rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvsim.config.tree import leaves
from kvsim.errors import CapacityError
from kvsim.lab.kv.design import Design
from kvsim.launch import read_launch_line
from kvsim.plan.deployment import load_deployment
from kvsim.plan.plan import Plan, unified_plan
from kvsim.validate.front_end import front_end_s


@dataclass(frozen=True, kw_only=True)
class CacheFacts:
    """What of a server decides which tokens are found cached."""

    block_size: int
    blocks: int | None
    """Blocks that hold KV; ``None``: nobody knows."""
    max_model_len: int | None
    inexact: str = ""
    """Why arithmetic on whole blocks would not be right for it; empty: it is."""

    @property
    def kv_tokens(self) -> int | None:
        return None if self.blocks is None else self.blocks * self.block_size


@dataclass(frozen=True)
class Deployed:
    """One server as it is simulated."""

    plan: Plan
    facts: CacheFacts
    front_end_s: float
    """Seconds of a request outside the engine."""


def deployed(line: str, gpu: str, sets: Mapping[str, Any], *, caching: bool = True) -> Deployed:
    """Raises ``ConfigError`` for what no server is, ``CapacityError`` for one that does not start."""
    launch = read_launch_line(line if caching else f"{line} --no-enable-prefix-caching")
    own = (f"{key}={json.dumps(value)}" for key, value in leaves(dict(sets)))
    config = load_deployment(launch, gpu=gpu, sets=("load.warm_caches=false", *own)).config
    plan = unified_plan(config, config.engine.data_parallel_size, config.pd_separation.tiers)
    _check_room(plan)
    return Deployed(plan, _facts(plan), front_end_s(config.engine.vllm_version))


def of_design(design: Design, line: str, *, caching: bool = True) -> Deployed:
    """The server of a design, by the ``line`` of a point."""
    return deployed(line, design.gpu, design.sets, caching=caching)


def _check_room(plan: Plan) -> None:
    """vLLM starts no server whose KV cache cannot hold one request of the longest length, unless told its blocks."""
    tokens = plan.colocated_settings.max_model_len
    if plan.config.engine.num_gpu_blocks_override is None and plan.spec.max_concurrency(tokens) < 1:
        room = plan.colocated_settings.room_tokens
        raise CapacityError(f"the KV cache, {room:,} tokens, cannot hold one request of max_model_len = {tokens:,}")


def _facts(plan: Plan) -> CacheFacts:
    settings = plan.colocated_settings
    reasons = {
        "several engines share the requests": plan.num_instances > 1,
        "tiers below the GPU keep KV too": bool(plan.tiers),
        "groups of layers keep blocks of their own": bool(settings.kv_groups),
        "its cache is a tree of tokens, not of blocks": settings.prefix_cache != "paged",
        "drafts hold the last block back": settings.speculation is not None,
    }
    return CacheFacts(
        block_size=settings.block_size,
        blocks=settings.num_blocks,
        max_model_len=settings.max_model_len,
        inexact=next((words for words, is_so in reasons.items() if is_so), ""),
    )
