"""In which order those that wait are admitted, by SGLang's names. Policies know nothing of SimPy.

An order is a permutation of the places in the queue, oldest first. It sees what each prompt is made of and how many of
its first blocks are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvsim.policy.registry import Policies
from kvsim.policy.scheduling.dfs_weight import dfs_weight
from kvsim.policy.scheduling.lpm import longest_prefix

Path = tuple[tuple[int, int, int], ...]
Order = Callable[[Sequence[Path], Sequence[int], int], list[int]]
"""``order(paths, hits, block_size)``: the places of the queue, whoever is to be admitted first in front."""

PRIORITY = "priority"
"""Lower ``Request.priority`` first, then who came first, as in vLLM; who is preempted goes by it too."""

FCFS, LPM, DFS_WEIGHT = "fcfs", "lpm", "dfs_weight"
LOF = "lof"
"""Longest answer first; SGLang's scheduler alone."""

ORDERS: Policies[Order | None] = Policies(
    "engine.scheduling_policy",
    {
        FCFS: None,
        LPM: longest_prefix,
        DFS_WEIGHT: dfs_weight,
        LOF: None,
        PRIORITY: None,
    },
)
"""``None``: the order in which the scheduler's own queue stands."""
