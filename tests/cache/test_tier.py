"""A tier against a plain reference, and the names of chunks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvsim.cache.chunks import chunk_key, chunk_keys, chunk_place, is_shared
from kvsim.cache.runlru import RunLru
from kvsim.cache.table import OPEN_END
from kvsim.cache.tier import Tier
from kvsim.policy.eviction import NOBODY, Access, make_eviction
from kvsim.policy.eviction.lru import Lru

KEYS = st.integers(0, 30)


class TierAgainstList(RuleBasedStateMachine):
    """An LRU tier of five chunks and a list, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.census: dict[int, int] = {}
        self.tier = Tier("dram", 5, make_eviction("lru", 5), census=self.census, is_volatile=True)
        self.reference: list[int] = []
        self.access = Access()

    @rule(keys=st.lists(KEYS, max_size=4, unique=True))
    def use(self, keys: list[int]) -> None:
        missing = self.tier.use(keys, self.access)
        assert missing == [key for key in keys if key not in self.reference]
        for key in keys:
            if key in self.reference:
                self.reference.remove(key)
                self.reference.append(key)

    @rule(key=KEYS)
    def store(self, key: int) -> None:
        if key in self.reference:
            return
        victims = self.tier.store_all([key], self.access)
        assert victims == ([self.reference.pop(0)] if len(self.reference) == 5 else [])
        self.reference.append(key)

    @rule(key=KEYS)
    def discard(self, key: int) -> None:
        if key in self.reference:
            self.tier.discard(key)
            self.reference.remove(key)

    @rule()
    def lose_all(self) -> None:
        self.tier.lose_all()
        self.reference.clear()

    @invariant()
    def agrees(self) -> None:
        assert len(self.tier) == len(self.reference)
        assert all(key in self.tier for key in self.reference)
        counted = {key for key, copies in self.census.items() if copies}
        assert counted == {key for key in self.reference if is_shared(key)}
        self.tier.check_integrity()


TierAgainstList.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestTierAgainstList = TierAgainstList.TestCase


def test_a_chunk_is_named_after_the_chain_of_its_last_block() -> None:
    path = ((7, 0, 6), (9, 6, 10), (-3, 10, OPEN_END))
    assert chunk_keys(path, 17, 4) == [chunk_key(7, 0), chunk_key(9, 1), chunk_key(-3, 2), chunk_key(-3, 3)]
    assert chunk_keys(path, 8, 4) == [chunk_key(7, 0), chunk_key(9, 1)]
    assert chunk_keys(path, 3, 4) == []


def test_a_name_tells_its_place() -> None:
    assert [chunk_place(chunk_key(chain, 5)) for chain in (0, 7, -1, 1 << 40)] == [5] * 4


def test_equal_prefixes_have_equal_names_and_others_do_not() -> None:
    one, other = ((7, 0, 6), (-1, 6, OPEN_END)), ((7, 0, 9), (-2, 9, OPEN_END))
    first, second = chunk_keys(one, 12, 2), chunk_keys(other, 12, 2)
    assert first[:3] == second[:3]
    assert not set(first[3:]) & set(second[3:])
    assert [is_shared(key) for key in first] == [True] * 3 + [False] * 3


@settings(max_examples=200)
@given(
    capacity=st.integers(1, 12),
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(1, 9)), max_size=40),
)
def test_runs_are_evicted_as_their_chunks_would_be(capacity: int, moves: list[tuple[bool, int, int]]) -> None:
    whole, single, access = RunLru(capacity), Lru(capacity), Access()
    for turn, (is_run, key, count) in enumerate(moves):
        if is_run:
            keys = [chunk_key(-1 - turn, place) for place in range(count)]
            victims = [single.admit(one, access) for one in keys]
            displaced: list[int] = []
            whole.admit_run(keys, displaced)
            assert sorted(displaced) == sorted(one for one in victims if one != NOBODY)
        elif 2 * key in single:
            assert whole.touch_all((2 * key,), []) == 1
            single.hit(2 * key, access)
        else:
            displaced = []
            whole.admit(2 * key, displaced)
            assert displaced == [one for one in (single.admit(2 * key, access),) if one != NOBODY]
        assert len(whole) == len(single)
        assert [2 * each in whole for each in range(9)] == [2 * each in single for each in range(9)]
