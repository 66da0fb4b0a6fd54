"""Prompts that come one after another, against blocks that are hashed one by one as vLLM's prefix cache does."""

from __future__ import annotations

from collections import OrderedDict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.engine.block_table import BlockTable
from kvsim.sim.engine.paged import PagedPool
from kvsim.sim.engine.sequence import block_path
from kvsim.workload.live_prefixes import PrefixRegistry
from kvsim.workload.request import Request

Tokens = list[int]


class HashedBlocks:
    """Blocks one by one: a queue of free ones, and of each hash the blocks that have it, oldest first."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.size = block_size
        self.free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self.holders = [0] * num_blocks
        self.hashes: dict[int, int] = {}
        self.cached: dict[int, list[int]] = {}

    def keys(self, tokens: Tokens, extra: object) -> list[int]:
        key, found = hash(extra), []
        for at in range(0, len(tokens) - self.size + 1, self.size):
            key = hash((key, tuple(tokens[at : at + self.size])))
            found.append(key)
        return found

    def hits(self, tokens: Tokens, extra: object) -> list[int]:
        found = []
        for key in self.keys(tokens[:-1], extra):
            if not self.cached.get(key):
                break
            found.append(self.cached[key][0])
        return found

    def hold(self, blocks: list[int]) -> None:
        for block in blocks:
            self.free.pop(block, None)
            self.holders[block] += 1

    def grow(self, held: list[int], count: int) -> None:
        for _ in range(count):
            block, _ = self.free.popitem(last=False)
            if block in self.hashes:
                self.cached[self.hashes.pop(block)].remove(block)
            self.holders[block] = 1
            held.append(block)

    def hash_blocks(self, held: list[int], keys: list[int]) -> None:
        for block, key in zip(held, keys, strict=False):
            if block not in self.hashes:
                self.hashes[block] = key
                self.cached.setdefault(key, []).append(block)

    def release(self, held: list[int]) -> None:
        for block in reversed(held):
            self.holders[block] -= 1
            if not self.holders[block]:
                self.free[block] = None


def some_tokens(rng: Random, said: list[Tokens], most: int) -> tuple[Tokens, Tokens]:
    """A prompt that often begins as something did, and an answer that often goes on as that did, for a while."""
    before = rng.choice(said) if said and rng.random() < 0.8 else []
    prompt = before[: rng.randint(0, len(before))]
    place = len(prompt)
    if rng.random() < 0.6 or not prompt:
        prompt = prompt + [rng.randrange(3) for _ in range(rng.randint(1, most // 4))]
    follows = before[place : rng.randint(place, len(before))] if rng.random() < 0.7 else []
    answer = follows + [rng.randrange(3) for _ in range(rng.randint(0, most // 4))]
    return prompt[: most // 2], (answer or [rng.randrange(3)])[: most // 2]


def request(registry: PrefixRegistry, prompt: Tokens, answer: Tokens, extra: object) -> Request:
    pieces, output_chain = registry.pieces(prompt, answer, extra)
    assert sum(tokens for _, tokens in pieces) >= len(prompt)
    return Request(0, 0.0, len(prompt), len(answer), -1, pieces, output_chain)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    block_size=st.sampled_from([1, 2, 3, 4]),
    num_blocks=st.integers(8, 60),
    is_forgetful=st.booleans(),
)
def test_hits_through_pieces_are_those_of_blocks_hashed_one_by_one(
    seed: int, block_size: int, num_blocks: int, is_forgetful: bool
) -> None:
    """Up to three requests at a time, of tokens so few that much is alike; the registry may know everything, or as
    little as ``is_held`` lets it."""
    rng = Random(seed)
    pool = PagedPool(num_blocks, blank_first=False)
    model = HashedBlocks(num_blocks, block_size)
    live: list[tuple[BlockTable, list[int]]] = []

    def is_held(chain: int) -> bool:
        return pool.cached_blocks(chain) > 0 or any(chain == key for table, _ in live for key, _, _ in table.path)

    registry = PrefixRegistry(block_size, 1, is_held) if is_forgetful else PrefixRegistry(block_size, 10**6)
    said: list[Tokens] = []
    for _ in range(40):
        prompt, answer = some_tokens(rng, said, num_blocks * block_size // 2)
        said = [*said[-8:], prompt + answer]
        extra, whole = rng.choice([None, None, "adapter"]), -(-len(prompt + answer) // block_size)
        while live and (len(live) == 3 or whole > pool.num_free or rng.random() < 0.5):
            table, held = live.pop(rng.randrange(len(live)))
            model.release(held)
            pool.release(table)
        if whole > pool.num_free:
            continue
        table = BlockTable(block_path(request(registry, prompt, answer, extra), block_size))
        hits, _ = pool.match(table.path, (len(prompt) - 1) // block_size)
        held = model.hits(prompt, extra)
        assert hits == len(held)
        live.append((table, held))
        model.hold(held)
        if hits:
            pool.acquire(table, hits)
        for end in (len(prompt), len(prompt) + len(answer) - 1):
            # Scheduled, and hashed: the prompt, then the answer up to the last token, which nobody computes.
            more = -(-end // block_size) - len(held)
            model.grow(held, more)
            model.hash_blocks(held, model.keys((prompt + answer)[:end], extra))
            pool.take(more)
            table.loose += more
            pool.extend(table, end // block_size)
        assert pool.num_free == len(model.free)
        pool.check_integrity()
    if is_forgetful:
        # What is known of chains that are neither cached nor asked for goes with the next that comes.
        assert len(registry) <= num_blocks * (1 + 3 * 40)


def test_one_chain_a_prompt_and_its_answer() -> None:
    registry = PrefixRegistry(2, 100)
    assert registry.pieces([1, 2, 3], [4, 5]) == (((0, 3),), 0)
    # The next turn: the two whole blocks of before, then what is new.
    assert registry.pieces([1, 2, 3, 4, 5, 6], [7]) == (((0, 4), (1, 2)), 1)
    # Another adapter shares nothing, and a prompt shorter than a block has nothing to share.
    assert registry.pieces([1, 2, 3], [4, 5], "other") == (((2, 3),), 2)
    assert registry.pieces([1], []) == (((3, 1),), 3)


def test_an_answer_that_leaves_a_known_one_is_told_beyond_the_prompt() -> None:
    registry = PrefixRegistry(2, 100)
    registry.pieces([1, 2], [3, 4, 5, 6])
    # Chain 0 up to token 4, then another answer: the pieces have four tokens, the prompt two.
    assert registry.pieces([1, 2], [3, 4, 8, 9]) == (((0, 4),), 1)
    # The same answer once more, as far as it is asked for, is chain 0 itself.
    assert registry.pieces([1, 2], [3, 4, 5, 6]) == (((0, 2),), 0)
    assert registry.pieces([1, 2], [3, 4, 8, 9]) == (((0, 4),), 1)


def test_what_was_used_longest_ago_is_forgotten() -> None:
    registry = PrefixRegistry(1, 4)
    registry.pieces([1, 2], [3])
    registry.pieces([7, 8], [])
    assert len(registry) == 4
    assert registry.pieces([1], []) == (((0, 1),), 0)
    # A block more than fit: of the first chain the head was used since, and stays, as far as it goes.
    registry.pieces([1, 5], [])
    assert registry.pieces([1, 2, 3], []) == (((0, 1), (3, 2)), 3)
    assert len(registry) == 4


@pytest.mark.parametrize(("prompt", "block_size", "most"), [([], 2, 2), ([1], 0, 2), ([1], 2, 0)])
def test_bad_input_is_named(prompt: Tokens, block_size: int, most: int) -> None:
    with pytest.raises(ValueError, match="allowed: "):
        PrefixRegistry(block_size, most).pieces(prompt, [1])
