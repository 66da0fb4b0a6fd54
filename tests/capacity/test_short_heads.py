"""Why nothing can hit, where prompts share less than a block."""

from __future__ import annotations

import pytest
from builders import Row, plan, workload

from kvsim.capacity.load_search import short_heads
from kvsim.workload.hits import longest_seen_tokens

SHARED = [Row(float(i), pieces=((0, 240), (-1 - i, 300)), output_tokens=2) for i in range(4)]


def test_the_longest_head_that_came_before() -> None:
    assert longest_seen_tokens(workload(SHARED)) == 240
    assert longest_seen_tokens(workload([Row(0.0, pieces=((-1, 300),))])) == 0


@pytest.mark.parametrize(("block", "said"), [(16, False), (240, False), (241, True), (784, True)])
def test_heads_that_fill_no_block_are_the_reason(block: int, said: bool) -> None:
    found = short_heads(plan(1, 1, block_size=block), workload(SHARED))
    assert bool(found) is said
    for sentence in found:
        assert f"240 tokens and fills no block of {block}" in sentence


def test_there_is_no_reason_where_nothing_is_shared_or_cached() -> None:
    assert short_heads(plan(1, 1, block_size=784), workload([Row(0.0, pieces=((-1, 300),))])) == ()
    uncached = plan(1, 1, block_size=784, enable_prefix_caching=False)
    assert short_heads(uncached, workload(SHARED)) == ()
