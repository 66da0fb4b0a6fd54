"""Orders of the waiting queue by hand, and what they do to a loaded engine."""

from __future__ import annotations

import numpy as np
import pytest
from builders import coefficients, colocated, plan, served
from hypothesis import given
from hypothesis import strategies as st

from kvsim.policy.scheduling import ORDERS
from kvsim.policy.scheduling.dfs_weight import dfs_weight
from kvsim.policy.scheduling.lpm import longest_prefix
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.study.intervals import difference
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

OPEN = 1 << 60
BLOCK = 16


def alone(chain: int) -> tuple:
    return ((chain, 0, OPEN),)


def test_longest_prefix_first_and_equals_in_their_order() -> None:
    paths = [alone(chain) for chain in range(5)]
    assert longest_prefix(paths, [3, 9, 4, 9, 0], BLOCK) == [1, 3, 2, 0, 4]


def test_who_shares_what_nobody_has_computed_waits_for_the_first_of_them() -> None:
    shared = [((0, 0, 6), (-1 - i, 6, OPEN)) for i in range(3)]
    paths = [shared[0], alone(7), shared[1], shared[2]]
    assert longest_prefix(paths, [0, 0, 0, 0], BLOCK) == [0, 1, 2, 3]
    assert longest_prefix([shared[0], shared[1], alone(7)], [0, 0, 0], BLOCK) == [0, 2, 1]
    assert longest_prefix([shared[0], shared[1], alone(7)], [6, 6, 0], BLOCK) == [0, 1, 2]
    short = [((0, 0, 1), (-1 - i, 1, OPEN)) for i in range(2)]
    assert longest_prefix([*short, alone(7)], [0, 0, 0], BLOCK) == [0, 1, 2]


def test_a_long_queue_is_left_in_its_order() -> None:
    paths, hits = [alone(chain) for chain in range(129)], list(range(129))
    assert longest_prefix(paths, hits, BLOCK) == hits
    assert longest_prefix(paths[1:], hits[1:], BLOCK) == hits[:128][::-1]


def test_depth_first_the_heavier_branch_before_the_lighter() -> None:
    light = [((0, 0, 2), (1, 2, OPEN))]
    heavy = [((0, 0, 2), (2, 2, OPEN))] * 3
    bare = [alone(9)]
    paths = [*bare, *light, heavy[0], ((0, 0, OPEN),), heavy[1], heavy[2]]
    assert dfs_weight(paths, [0, 5, 5, 2, 7, 5], BLOCK) == [4, 2, 5, 1, 3, 0]


@pytest.mark.parametrize("name", ["lpm", "dfs_weight"])
@given(data=st.data())
def test_an_order_is_a_permutation_and_nothing_without_hits(name: str, data: st.DataObject) -> None:
    order = ORDERS[name]
    assert order is not None
    tails = data.draw(st.lists(st.integers(0, 3), max_size=12))
    paths = [((0, 0, 4), (tail, 4, OPEN)) if tail else alone(50 + i) for i, tail in enumerate(tails)]
    hits = [data.draw(st.integers(0, 9)) for _ in paths]
    assert sorted(order(paths, hits, BLOCK)) == list(range(len(paths)))
    private = [alone(-1 - i) for i in range(len(paths))]
    assert order(private, [0] * len(paths), BLOCK) == list(range(len(paths)))


def sessions(shared_tokens: int, seed: int, num: int = 700, families: int = 40) -> Workload:
    """Prompts of many families, each of which begins with ``shared_tokens`` of its own, faster than they are served."""
    random = np.random.default_rng(seed)
    family = random.integers(families, size=num)
    own = random.integers(40, 200, size=num)
    if not shared_tokens:
        own += 480
    pieces = np.stack((family, -1 - np.arange(num)), axis=1)
    tokens = np.stack((np.full(num, shared_tokens), own), axis=1)
    kept = tokens > 0
    return Workload(
        arrival_s=np.cumsum(random.exponential(0.055, num)),
        prompt_tokens=(shared_tokens + own).astype(np.int32),
        output_tokens=random.integers(5, 30, size=num).astype(np.int32),
        session_id=np.full(num, -1, dtype=np.int64),
        output_chain=-1 - np.arange(num, dtype=np.int64),
        piece_offsets=np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int64),
        piece_chain=pieces[kept].astype(np.int64),
        piece_tokens=tokens[kept].astype(np.int32),
        info=WorkloadInfo("test", "synthetic"),
    )


def figures(policy: str, prefix_cache: str, shared_tokens: int, seed: int) -> tuple[float, float]:
    """Share of prompt tokens hit and mean TTFT of one engine whose cache holds few of the families."""
    found = plan(
        times=coefficients(w0_s=0.004, p1_s_per_token=2e-4, a_s_per_kv_token=1e-7),
        block_size=BLOCK,
        num_blocks=400,
        max_num_batched_tokens=1024,
    )
    changes = {"scheduling_policy": policy, "prefix_cache": prefix_cache}
    found = found.with_settings("colocated", **changes)
    table = served(UnifiedSystem, colocated(found), sessions(shared_tokens, seed)).requests.table()
    ttft_s = table["first_token_s"] - table["arrival_s"]
    return float(table["hit_tokens"].sum() / table["prompt_tokens"].sum()), float(ttft_s.mean())


@pytest.mark.parametrize("prefix_cache", ["paged", "radix"])
@pytest.mark.parametrize("policy", ["lpm", "dfs_weight"])
def test_orders_beat_fcfs_where_prompts_share_and_do_nothing_where_they_do_not(policy: str, prefix_cache: str) -> None:
    """Paired replications, 95% intervals of the differences in hit rate and mean TTFT."""
    for shared_tokens in (480, 0):
        ours = [figures(policy, prefix_cache, shared_tokens, seed) for seed in range(4)]
        fcfs = [figures("fcfs", prefix_cache, shared_tokens, seed) for seed in range(4)]
        hits, ttft_s = (difference([o[i] for o in ours], [f[i] for f in fcfs], 0.95) for i in (0, 1))
        if shared_tokens:
            assert hits.mean - hits.half_width > 0 > ttft_s.mean + ttft_s.half_width
        else:
            assert ours == fcfs
