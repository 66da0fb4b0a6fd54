from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvsim.workload.chains import HashPaths, pieces_of
from kvsim.workload.hits import hash_hit_rates, token_hit_rate

BLOCK = 4
Prompt = tuple[list[int], int]
"""Hash ids and prompt tokens."""


def hash_paths(prompts: list[Prompt]) -> tuple[HashPaths, np.ndarray]:
    offsets = np.cumsum([0] + [len(ids) for ids, _ in prompts])
    ids = np.array([hash_id for ids, _ in prompts for hash_id in ids], dtype=np.int64)
    return HashPaths(offsets, ids, BLOCK), np.array([tokens for _, tokens in prompts], dtype=np.int64)


def pieces(prompts: list[Prompt]) -> list[list[tuple[int, int]]]:
    paths, tokens = hash_paths(prompts)
    found = pieces_of(paths.within(tokens), tokens)
    pairs = list(zip(found.chain.tolist(), found.tokens.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)]


def common_by_pieces(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int:
    common = 0
    for (chain_a, tokens_a), (chain_b, tokens_b) in zip(a, b, strict=False):
        if chain_a != chain_b:
            break
        common += min(tokens_a, tokens_b)
        if tokens_a != tokens_b:
            break
    return common


def common_by_ids(a: Prompt, b: Prompt) -> int:
    common = 0
    for place, (id_a, id_b) in enumerate(zip(a[0], b[0], strict=False)):
        length_a, length_b = (min(BLOCK, tokens - place * BLOCK) for tokens in (a[1], b[1]))
        if id_a != id_b or min(length_a, length_b) <= 0:
            break
        common += min(length_a, length_b)
        if length_a != length_b:
            break
    return common


def test_a_lone_prompt_is_private() -> None:
    assert pieces([([5, 6, 7], 11)]) == [[(-1, 11)]]


def test_a_common_head_is_one_shared_chain() -> None:
    assert pieces([([1, 2, 3], 12), ([1, 2, 4], 10)]) == [[(0, 8), (-1, 4)], [(0, 8), (-2, 2)]]


def test_a_prompt_may_end_inside_a_chain() -> None:
    assert pieces([([1, 2], 6), ([1, 2, 3], 12), ([1, 2, 3], 12)]) == [[(0, 6)], [(0, 12)], [(0, 12)]]


def test_a_private_branch_does_not_cut_the_chain_it_leaves() -> None:
    assert pieces([([1, 2], 8), ([1, 9], 8), ([1, 2], 8)]) == [[(0, 8)], [(0, 4), (-2, 4)], [(0, 8)]]


def test_shared_branches_are_chains_of_their_own() -> None:
    a, b = ([1, 2], 8), ([1, 3], 8)
    assert pieces([a, b, a, b]) == [[(0, 4), (1, 4)], [(0, 4), (2, 4)]] * 2


def test_an_id_behind_another_prefix_is_another_content() -> None:
    assert pieces([([1, 7], 8), ([2, 7], 8)]) == [[(-1, 8)], [(-2, 8)]]


def test_tokens_without_an_id_are_private_and_ids_beyond_the_prompt_do_not_count() -> None:
    assert pieces([([1], 9), ([1, 2, 3], 4)]) == [[(0, 4), (-1, 5)], [(0, 4)]]
    assert pieces([([], 5), ([], 6)]) == [[(-1, 5)], [(-2, 6)]]


prompts_with_some_ids = st.lists(
    st.tuples(st.lists(st.integers(0, 2), max_size=6), st.integers(1, 26)), min_size=1, max_size=12
)
prompts_covered_by_ids = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=6).flatmap(
        lambda ids: st.tuples(st.just(ids), st.integers(len(ids) * BLOCK - BLOCK + 1, len(ids) * BLOCK))
    ),
    min_size=1,
    max_size=12,
)


@given(prompts_with_some_ids | prompts_covered_by_ids)
def test_common_prefixes_are_those_of_the_hash_ids(prompts: list[Prompt]) -> None:
    found = pieces(prompts)
    for (_, tokens), path in zip(prompts, found, strict=True):
        assert sum(part for _, part in path) == tokens
    for i, a in enumerate(prompts):
        for j in range(i):
            assert common_by_pieces(found[i], found[j]) == common_by_ids(a, prompts[j])


@given(prompts_with_some_ids)
def test_every_chain_has_one_parent_path_and_private_ones_one_owner(prompts: list[Prompt]) -> None:
    parents: dict[int, tuple[tuple[int, int], ...]] = {}
    owners: dict[int, int] = {}
    for request, path in enumerate(pieces(prompts)):
        for place, (chain, _) in enumerate(path):
            assert parents.setdefault(chain, tuple(path[:place])) == tuple(path[:place])
            if chain < 0:
                assert owners.setdefault(chain, request) == request == -1 - chain


def prefix_consistent(prompts: list[Prompt]) -> list[Prompt]:
    """The same prompts with ids that name the whole path, as a prefix-chained hash does."""
    known: dict[tuple[int, ...], int] = {}
    return [
        ([known.setdefault(tuple(ids[: place + 1]), len(known)) for place in range(len(ids))], tokens)
        for ids, tokens in prompts
    ]


@given(prompts_covered_by_ids.map(prefix_consistent))
def test_token_hits_by_pieces_are_those_by_ids(prompts: list[Prompt]) -> None:
    paths, tokens = hash_paths(prompts)
    found = pieces_of(paths, tokens)
    private = -1 - np.arange(len(prompts))
    by_pieces = token_hit_rate(tokens, np.ones_like(tokens), private, found.offsets, found.chain, found.tokens)
    best: dict[int, int] = {}
    seen = 0
    for ids, length in prompts:
        for place, hash_id in enumerate(ids):
            part = min(BLOCK, length - place * BLOCK)
            seen += min(part, best.get(hash_id, 0))
            best[hash_id] = max(part, best.get(hash_id, 0))
    assert by_pieces == seen / tokens.sum()
    # Engines hit whole blocks, and so does the rate by ids.
    assert hash_hit_rates(paths, tokens).tokens <= by_pieces


def test_hit_rates_by_hand() -> None:
    # Ids 0 0' | 0 1 | 0 1(partial): 6 accesses, 0 seen twice and 1 seen once before.
    paths, tokens = hash_paths([([0, 2], 8), ([0, 1], 8), ([0, 1], 6)])
    rates = hash_hit_rates(paths, tokens)
    assert rates.all_ids == 3 / 6
    assert rates.full_blocks == 2 / 5
    assert rates.tokens == (4 + 4) / 22


def test_an_answer_can_be_hit_by_the_next_turn() -> None:
    # A session's stream on chain 0: 10 tokens asked, 5 answered, then 20 of which 15 are known.
    prompts, outputs = np.array([10, 20]), np.array([5, 1])
    chain, offsets = np.array([0, 0]), np.array([0, 1, 2])
    assert token_hit_rate(prompts, outputs, chain, offsets, chain, prompts) == 15 / 30
    assert token_hit_rate(prompts, outputs, np.array([-1, -2]), offsets, chain, prompts) == 10 / 30
