"""Tiers against a plain reference, the names of chunks, and which tiers have what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvsim.policy.admission import AdmissionSettings, make_admission
from kvsim.policy.eviction import EVICTIONS, Access, make_eviction
from kvsim.sim.engine.block_table import OPEN_END
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.chunks import (
    Run,
    chunk_chain,
    chunk_key,
    chunk_keys,
    chunk_place,
    chunk_runs,
    num_chunks,
    runs_of,
    sliced,
)
from kvsim.sim.tiers.lru_tier import LruTier
from kvsim.sim.tiers.policy_tier import PolicyTier
from kvsim.sim.tiers.tier import Tier


def _under(policy: str, name: str, capacity: int) -> Tier:
    return PolicyTier(name, make_eviction(policy, capacity))


PLACES = 6
RUNS = st.builds(
    lambda chain, first, count: (chain, first, min(first + count, PLACES)),
    st.integers(0, 3),
    st.integers(0, PLACES - 1),
    st.integers(1, PLACES),
)
"""Of four chains that share places, as if they were four prompts."""


class TierAgainstList(RuleBasedStateMachine):
    """An LRU tier and a list of chunks, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.access = Access()
        self.private = 0
        self.reference: list[int] = []
        self.directory = ChunkDirectory()

    @initialize(capacity=st.integers(1, 14), in_runs=st.booleans())
    def build(self, capacity: int, in_runs: bool) -> None:
        self.capacity = capacity
        self.tier: Tier = LruTier("dram", capacity, 7, self.directory)
        if not in_runs:
            self.tier = PolicyTier("dram", make_eviction("lru", capacity), 7, self.directory, is_volatile=True)

    @rule(run=RUNS)
    def use(self, run: Run) -> None:
        keys = chunk_keys((run,))
        missing = self.tier.use([run], self.access)
        assert chunk_keys(missing) == [key for key in keys if key not in self.reference]
        for key in reversed(keys):
            if key in self.reference:
                self.reference.remove(key)
                self.reference.append(key)

    @rule(run=RUNS)
    def store(self, run: Run) -> None:
        self._store(run)

    @rule(count=st.integers(1, 20))
    def store_private(self, count: int) -> None:
        self.private += 1
        self._store((-self.private, 3, 3 + count))

    @rule(runs=st.lists(RUNS, max_size=3))
    def discard(self, runs: list[Run]) -> None:
        self.tier.discard(runs)
        self.reference = [key for key in self.reference if key not in chunk_keys(runs)]

    @rule()
    def lose_all(self) -> None:
        self.tier.lose_all()
        self.reference.clear()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "tier"):
            return
        self.tier.check_integrity()
        assert len(self.tier) == len(self.reference)
        for chain in range(4):
            here = [chunk_key(chain, place) in self.reference for place in range(PLACES)]
            for place in range(PLACES):
                held_to = next((at for at in range(place, PLACES) if not here[at]), PLACES)
                absent_to = next((at for at in range(place, PLACES) if here[at]), PLACES)
                assert self.tier.held_to(chain, place, PLACES) == held_to
                assert self.tier.absent_to(chain, place, PLACES) == absent_to
        held = {chunk_chain(key) for key in self.reference}
        assert [list(self.directory.holders(chain)) for chain in range(4)] == [
            [7] * (chain in held) for chain in range(4)
        ]

    def _store(self, run: Run) -> None:
        displaced: list[int] = []
        for key in reversed(chunk_keys((run,))):
            if key not in self.reference:
                if len(self.reference) == self.capacity:
                    displaced.append(self.reference.pop(0))
                self.reference.append(key)
        assert sorted(chunk_keys(self.tier.store([run], self.access))) == sorted(displaced)


TierAgainstList.TestCase.settings = settings(max_examples=90, stateful_step_count=40)
TestTierAgainstList = TierAgainstList.TestCase


@settings(max_examples=60)
@given(
    capacity=st.integers(1, 12),
    moves=st.lists(st.tuples(st.booleans(), st.lists(RUNS, min_size=1, max_size=3)), max_size=30),
)
def test_runs_are_evicted_as_their_chunks_would_be(capacity: int, moves: list[tuple[bool, list[Run]]]) -> None:
    whole, single, access = LruTier("a", capacity), PolicyTier("b", make_eviction("lru", capacity)), Access()
    for turn, (is_private, runs) in enumerate(moves):
        tail = [(-1 - turn, PLACES, PLACES + 4)] if is_private else []
        missing = whole.use([*runs, *tail], access)
        assert chunk_keys(missing) == chunk_keys(single.use([*runs, *tail], access))
        displaced = whole.store(missing, access), single.store(missing, access)
        assert sorted(chunk_keys(displaced[0])) == sorted(chunk_keys(displaced[1]))
        assert (len(whole), whole.stored, whole.evicted) == (len(single), single.stored, single.evicted)


@pytest.mark.parametrize("make", [LruTier, *(partial(_under, name) for name in ("lru", "fifo", "arc", "lfu"))])
def test_of_a_prompt_the_tail_goes_first(make: Callable[[str, int], Tier]) -> None:
    """LMCache (``LocalCPUBackend.touch_cache``) and vLLM (``LRUOffloadingManager.touch``) touch chunks in reverse."""
    tier, access = make("dram", 6), Access()
    tier.store([(1, 0, 2), (2, 2, 6)], access)
    tier.store([(3, 0, 2)], access)
    assert (tier.held_to(1, 0, 2), tier.held_to(2, 2, 6)) == (2, 4)
    assert tier.use([(1, 0, 2), (2, 2, 6)], access) == [(2, 4, 6)]


def test_of_a_prompt_that_does_not_fit_the_head_stays() -> None:
    for tier in (LruTier("dram", 3), _under("lru", "dram", 3)):
        assert sorted(chunk_keys(tier.store([(1, 0, 2), (2, 2, 6)], Access()))) == chunk_keys([(2, 3, 6)])
        assert (tier.held_to(1, 0, 2), tier.held_to(2, 2, 6)) == (2, 3)


def test_a_chunk_too_old_for_its_admission_policy_is_not_there() -> None:
    ttl = make_admission("ttl", AdmissionSettings(8, 0, 10.0))
    tier, access = PolicyTier("dram", make_eviction("lru", 8), admission=ttl), Access()
    tier.store(tier.admitted([(1, 0, 3)], access), access)
    access.time_s = 9.0
    assert tier.usable_to(1, 0, 3, access) == 3
    access.time_s = 19.5
    assert tier.held_to(1, 0, 3) == 3
    assert tier.usable_to(1, 0, 3, access) == 0
    assert (len(tier), tier.discarded) == (2, 1)


def test_the_census_remembers_how_far_a_chain_was_ever_written() -> None:
    directory = ChunkDirectory()
    tier = LruTier("dram", 4, 3, directory)
    assert (directory.written_end(5), list(directory.holders(5))) == (0, [])
    tier.store([(5, 0, 3)], Access())
    assert (directory.written_end(5), list(directory.holders(5))) == (3, [3])
    tier.store([(6, 0, 4)], Access())
    assert (directory.written_end(5), list(directory.holders(5))) == (3, [])


def test_a_chunk_is_named_after_the_chain_of_its_last_block() -> None:
    path = ((7, 0, 6), (9, 6, 10), (-3, 10, OPEN_END))
    assert chunk_runs(path, 17, 4) == [(7, 0, 1), (9, 1, 2), (-3, 2, 4)]
    assert chunk_runs(path, 8, 4) == [(7, 0, 1), (9, 1, 2)]
    assert chunk_runs(path, 3, 4) == []


def test_a_name_tells_its_chain_and_place() -> None:
    for chain in (0, 7, -1, 1 << 40, -(1 << 40)):
        key = chunk_key(chain, 5)
        assert (chunk_chain(key), chunk_place(key), key & 1) == (chain, 5, chain < 0)


def test_equal_prefixes_have_equal_names_and_others_do_not() -> None:
    one, other = ((7, 0, 6), (-1, 6, OPEN_END)), ((7, 0, 9), (-2, 9, OPEN_END))
    first, second = chunk_keys(chunk_runs(one, 12, 2)), chunk_keys(chunk_runs(other, 12, 2))
    assert first[:3] == second[:3]
    assert not set(first[3:]) & set(second[3:])
    assert [chunk_chain(key) for key in first] == [7] * 3 + [-1] * 3


@given(runs=st.lists(RUNS, max_size=5))
def test_names_give_back_their_runs(runs: list[Run]) -> None:
    keys = chunk_keys(runs)
    assert chunk_keys(runs_of(keys)) == keys
    assert num_chunks(runs_of(keys)) == len(keys)


def test_a_slice_of_a_prompt_ends_where_it_should() -> None:
    runs = [(7, 0, 3), (9, 3, 8)]
    assert sliced(runs, 1, 5) == [(7, 1, 3), (9, 3, 5)]
    assert sliced(runs, 3, 4) == [(9, 3, 4)]
    assert sliced(runs, 8, 9) == []


@pytest.mark.parametrize("policy", EVICTIONS)
def test_a_policy_that_weighs_tails_itself_is_told_of_heads_first(policy: str) -> None:
    """Others are told of tails first, so that of equals the tail goes first."""
    told: list[int] = []

    class Told(EVICTIONS[policy]):  # type: ignore[misc]
        def hit(self, key: int, access: Access) -> None:
            told.append(access.depth)
            super().hit(key, access)

        def admit(self, key: int, access: Access) -> int:
            told.append(access.depth)
            return int(super().admit(key, access))

    tier, access = PolicyTier("dram", Told(8)), Access()
    access.blocks = 4
    tier.store([(6, 0, 2), (10, 2, 4)], access)
    access.index, access.time_s = 1, 1.0
    assert tier.use([(6, 0, 2), (10, 2, 4), (10, 4, 6)], access) == [(10, 4, 6)]
    assert told == 2 * ([0, 1, 2, 3] if policy in ("learned", "session") else [3, 2, 1, 0])
