"""Caches that are warm from the start, with what a service that has run for hours holds of its common prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import OPEN_END, Path
from kvsim.sim.engine.engine import Engine
from kvsim.sim.routing import PrefixIndex
from kvsim.workload.workload import Workload

COMMON_SHARE = 0.005
"""A prompt head is common when at least this share of requests begins with it."""
MOST_OF_POOL = 0.25
"""Common heads take at most this share of a pool, the most frequent first."""


def common_heads(workload: Workload, block_size: int) -> list[Path]:
    """Paths of the shared chains that many requests begin with, the most frequent first, as long as any uses them."""
    if not len(workload):
        return []
    firsts = workload.piece_offsets[:-1][np.diff(workload.piece_offsets) > 0]
    chains, tokens = workload.piece_chain[firsts], workload.piece_tokens[firsts]
    shared = chains >= 0
    names, index, counts = np.unique(chains[shared], return_inverse=True, return_counts=True)
    longest = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(longest, index, tokens[shared])
    order = np.argsort(-counts, kind="stable")
    common = [i for i in order.tolist() if counts[i] >= COMMON_SHARE * len(workload) and counts[i] > 1]
    heads = [(int(names[i]), int(longest[i]) // block_size) for i in common]
    return [((chain, 0, blocks), (-1, blocks, OPEN_END)) for chain, blocks in heads if blocks]


def warm(pool: BlockPool, heads: Sequence[Path]) -> list[Path]:
    """Cache ``heads`` in a pool nobody has used yet; returns those that were."""
    room = int(MOST_OF_POOL * pool.num_blocks)
    cached = []
    for head in heads:
        blocks = head[0][2]
        if blocks > room:
            break
        if pool.insert(head, 0, 0, blocks):
            cached.append(head)
            room -= blocks
    return cached


def warm_caches(
    workload: Workload, engines: Sequence[Engine], index: PrefixIndex, heads: Sequence[Path] | None = None
) -> list[str]:
    """Synthetic traffic begins in the midst of things: every instance has met its common prompts before. Returns what
    is to be noted of that. ``heads``: of these; ``None``: those of ``workload``.
    """
    if workload.info.format != "synthetic":
        return []
    if heads is None:
        heads = common_heads(workload, engines[0].settings.block_size)
    for engine in engines:
        cached = warm(engine.pool, heads)
        if engine.role != "decode":
            for head in cached:
                index.computed(engine.instance, head, head[0][2])
    if not heads:
        return []
    return [f"caches start warm: {len(heads)} prompt heads that at least {COMMON_SHARE:.1%} of requests share"]
