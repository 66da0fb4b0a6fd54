"""Why accesses and an engine hit differently: both sentences, against caches that are lists."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reason_checker import N, all_same

from kvsim.policy.eviction import make_eviction
from kvsim.policy.eviction.replay import replay, replay_engine
from kvsim.reasons.accesses import missing_head, tails_first
from kvsim.workload.accesses import Accesses

MISSING_HEAD = (
    rf"(fifo|lru) with {N} blocks: {N} of {N} accesses that hit stand behind a missing block of their prompt, and an "
    r"engine computes them again\."
)
TAILS_FIRST = (
    rf"(fifo|lru) with {N} blocks: an engine uses the blocks of a prompt from its tail to its head and hits {N}; in "
    rf"the order of the file, head to tail, {N} hit\."
)
Prompts = list[list[int]]


def asked(prompts: Prompts) -> Accesses:
    offsets = [0, *accumulate(map(len, prompts))]
    count = len(prompts)
    return Accesses([key for keys in prompts for key in keys], offsets, [0.0] * count, [-1] * count, [0] * count)


class Listed:
    """A cache whose first block goes first."""

    def __init__(self, name: str, capacity: int) -> None:
        self.is_lru, self.capacity, self.blocks = name == "lru", capacity, list[int]()

    def use(self, key: int) -> bool:
        is_hit = key in self.blocks
        if is_hit and self.is_lru:
            self.blocks.remove(key)
            self.blocks.append(key)
        elif not is_hit:
            self.blocks = [*self.blocks, key][-self.capacity :]
        return is_hit


def one_by_one(name: str, capacity: int, prompts: Prompts) -> tuple[int, int]:
    """Hits, and those behind a block that missed."""
    cache, hits, behind = Listed(name, capacity), 0, 0
    for keys in prompts:
        found = [cache.use(key) for key in keys]
        hits += sum(found)
        behind += sum(found[found.index(False) :]) if False in found else 0
    return hits, behind


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), min_size=1, max_size=12))
@pytest.mark.parametrize("name", ["fifo", "lru"])
def test_every_count_is_that_of_a_list(name: str, prompts: Prompts) -> None:
    accesses = asked(prompts)
    hits, behind = one_by_one(name, 4, prompts)
    reason = missing_head(name, make_eviction(name, 4, 0), accesses)
    assert (reason is None) == (behind == 0)
    if reason is not None:
        found = re.fullmatch(MISSING_HEAD, reason.sentence)
        assert found is not None and all_same(found.groups()[1:], 4, behind, hits)
    rates = [count(make_eviction(name, 4, 0), accesses) / len(accesses.keys) for count in (replay, replay_engine)]
    assert rates[0] == hits / len(accesses.keys)
    told = tails_first(name, make_eviction(name, 4, 0), *rates)
    assert (told is None) == (rates[1] <= rates[0])
    if told is not None:
        found = re.fullmatch(TAILS_FIRST, told.sentence)
        assert found is not None and all_same(found.groups()[1:], 4, rates[1], rates[0])


def test_a_hit_behind_a_missing_head_has_its_sentence() -> None:
    """Block 1 goes as 4 comes in; 2 and 3 are still there."""
    reason = missing_head("fifo", make_eviction("fifo", 3, 0), asked([[1, 2, 3], [4], [1, 3]]))
    assert reason is not None
    assert reason.sentence == (
        "fifo with 3 blocks: 1 of 1 accesses that hit stand behind a missing block of their prompt, and an engine "
        "computes them again."
    )


def test_tails_that_go_first_have_their_sentence() -> None:
    """Of four blocks the cache keeps three: the last three by the file, the first three as an engine uses them."""
    accesses = asked([[1, 2, 3, 4]] * 2)
    rates = [count(make_eviction("lru", 3, 0), accesses) / 8 for count in (replay, replay_engine)]
    reason = tails_first("lru", make_eviction("lru", 3, 0), *rates)
    assert reason is not None
    assert reason.sentence == (
        "lru with 3 blocks: an engine uses the blocks of a prompt from its tail to its head and hits 0.3750; in the "
        "order of the file, head to tail, 0.0000 hit."
    )


def test_of_a_policy_that_is_told_of_heads_first_no_tail_goes_first() -> None:
    policy = make_eviction("lru", 3, 0)
    policy.heads_first = True  # type: ignore[misc]
    assert tails_first("lru", policy, 0.1, 0.2) is None
