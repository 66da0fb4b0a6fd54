"""The prefix index against a set of (instance, chain, block)."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.routing.prefix_index import Path, PrefixIndex, StaleIndex

END = 1 << 60
PATHS: list[Path] = [
    ((0, 0, END),),
    ((0, 0, 3), (1, 3, END)),
    ((0, 0, 3), (1, 3, 5), (2, 5, END)),
    ((0, 0, 1), (3, 1, END)),
    ((0, 0, 2), (-7, 2, END)),
    ((-8, 0, END),),
]


def key(path: Path, block: int) -> tuple[int, int]:
    chain, first, _ = next(entry for entry in path if block < entry[2])
    return chain, block - first


class Blocks:
    """What every instance holds, block by block."""

    def __init__(self) -> None:
        self.held: set[tuple[int, int, int]] = set()

    def computed(self, instance: int, path: Path, blocks: int) -> None:
        keys = [key(path, block) for block in range(blocks)]
        self.held |= {(instance, *k) for k in keys if k[0] >= 0}

    def evicted(self, instance: int, chain: int, left: int) -> None:
        self.held = {k for k in self.held if k[:2] != (instance, chain) or k[2] < left}

    def matched(self, instance: int, path: Path, limit: int) -> int:
        for block in range(limit):
            if (instance, *key(path, block)) not in self.held:
                return block
        return limit


@given(st.randoms(use_true_random=False))
def test_matches_equal_those_of_single_blocks(rng: Random) -> None:
    index, blocks = PrefixIndex(), Blocks()
    for _ in range(30):
        instance = rng.randrange(3)
        if rng.random() < 0.6:
            path, count = rng.choice(PATHS), rng.randint(0, 9)
            index.computed(instance, path, count)
            blocks.computed(instance, path, count)
        else:
            chain, left = rng.randrange(4), rng.randint(0, 4)
            index.evicted(instance, chain, left)
            blocks.evicted(instance, chain, left)
        path, limit = rng.choice(PATHS), rng.randint(0, 10)
        for someone in range(3):
            assert index.matched(someone, path, limit) == blocks.matched(someone, path, limit)


def test_holders_of_the_deepest_chain_latest_first() -> None:
    index = PrefixIndex()
    index.computed(0, PATHS[0], 3)
    index.computed(1, PATHS[1], 4)
    index.computed(2, PATHS[1], 6)
    assert index.holders(PATHS[1], 10, 4) == [(2, 6), (1, 4)]
    assert index.holders(PATHS[1], 5, 4) == [(2, 5), (1, 4)]
    assert index.holders(PATHS[1], 10, 1) == [(2, 6)]
    assert index.holders(PATHS[1], 3, 4) == [(2, 3), (1, 3), (0, 3)]


def test_what_is_evicted_everywhere_is_forgotten() -> None:
    index = PrefixIndex()
    index.computed(0, PATHS[0], 3)
    index.evicted(0, 0, 0)
    assert index.holders(PATHS[0], 10, 4) == []
    assert index.matched(0, PATHS[0], 10) == 0


def test_chains_of_one_request_are_not_kept() -> None:
    index = PrefixIndex()
    index.computed(0, PATHS[5], 9)
    index.computed(0, PATHS[4], 9)
    assert index.holders(PATHS[5], 9, 4) == []
    assert index.matched(0, PATHS[4], 9) == 2


def test_a_stale_index_knows_what_was_true_then() -> None:
    now_s = [0.0]
    index = StaleIndex(5.0, lambda: now_s[0])
    path = ((7, 0, 4),)
    index.computed(3, path, 4)
    assert index.holders(path, 4, 2) == [] and index.matched(3, path, 4) == 0
    now_s[0] = 4.0
    index.evicted(3, 7, 1)
    now_s[0] = 5.0
    assert index.holders(path, 4, 2) == [(3, 4)]
    now_s[0] = 9.0
    assert index.matched(3, path, 4) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 3), st.integers(0, 5)), max_size=30))
def test_late_news_add_up_to_the_same(events: list[tuple[bool, int, int, int]]) -> None:
    now_s = [0.0]
    fresh, stale = PrefixIndex(), StaleIndex(1.0, lambda: now_s[0])
    for is_new, instance, chain, blocks in events:
        for index in (fresh, stale):
            if is_new:
                index.computed(instance, ((chain, 0, 5),), blocks)
            else:
                index.evicted(instance, chain, blocks)
        now_s[0] += 0.3
    now_s[0] += 1.0
    for chain in range(4):
        path = ((chain, 0, 5),)
        assert stale.holders(path, 5, 9) == fresh.holders(path, 5, 9)
