"""What an engine finds in a prefix cache: from the head on, and tails go first."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.policy.eviction import EVICTIONS, make_eviction
from kvsim.policy.eviction.replay import replay, replay_engine
from kvsim.workload.accesses import Accesses

PROMPTS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=25)


def accesses(prompts: list[list[int]]) -> Accesses:
    keys = [key for prompt in prompts for key in prompt]
    offsets = [0]
    for prompt in prompts:
        offsets.append(offsets[-1] + len(prompt))
    count = len(prompts)
    return Accesses(keys, offsets, [float(i) for i in range(count)], [-1] * count, [0] * count)


def heads(drawn: list[tuple[int, int]]) -> list[list[int]]:
    """Prompts that are heads of a few chains."""
    return [[10 * chain + place for place in range(length)] for chain, length in drawn]


def free_list(prompts: list[list[int]], capacity: int) -> int:
    """Blocks found by vLLM's pool: used ones leave the list of free blocks, and come back tails first."""
    free: OrderedDict[int, None] = OrderedDict()
    usable = 0
    for prompt in prompts:
        found = 0
        while found < len(prompt) and prompt[found] in free:
            found += 1
        usable += found
        # What is behind a missing head is computed into the block that has it.
        for key in prompt:
            free.pop(key, None)
        while len(free) + len(prompt) > capacity:
            free.popitem(last=False)
        free.update(dict.fromkeys(reversed(prompt)))
    return usable


@settings(max_examples=120, deadline=None)
@given(PROMPTS, st.integers(5, 20))
def test_lru_is_the_engine_s_own_list_of_free_blocks(drawn: list[tuple[int, int]], capacity: int) -> None:
    prompts = heads(drawn)
    assert replay_engine(make_eviction("lru", capacity), accesses(prompts)) == free_list(prompts, capacity)


@pytest.mark.parametrize("name", [name for name in EVICTIONS if name != "learned"])
def test_where_nothing_is_evicted_both_count_alike(name: str) -> None:
    asked = accesses(heads([(0, 3), (1, 2), (0, 5), (0, 2), (1, 4)]))
    assert replay_engine(make_eviction(name, 100), asked) == replay(make_eviction(name, 100), asked) == 7
