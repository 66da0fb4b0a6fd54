"""Prompts share exactly the tokens that their pieces share, and the next one differs."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.measure.prompt_tokens import ChainTokens
from kvsim.workload.chains import HashPaths, pieces_of
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.request import Request
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload


def of_hashes(ids: list[list[int]], block: int) -> Workload:
    """Prompts of whole blocks, those of equal hashes alike."""
    lengths = np.array([len(each) * block for each in ids], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in ids])))
    pieces = pieces_of(HashPaths(offsets, np.concatenate(ids).astype(np.int64), block), lengths)
    found = Workload.private(np.arange(len(ids), dtype=np.float64), lengths, lengths, WorkloadInfo("t", "t"))
    return replace(found, piece_offsets=pieces.offsets, piece_chain=pieces.chain, piece_tokens=pieces.tokens)


def prompt(tokens: ChainTokens, request: Request) -> list[int]:
    return np.concatenate([tokens.head(chain, count) for chain, count in request.pieces]).tolist()


def common(first: list[int], second: list[int]) -> int:
    pairs = zip(first, second, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=2, max_size=12),
    st.integers(1, 5),
    st.integers(0, 2**40),
    st.integers(14, 300),
)
def test_pairs_share_what_their_hashes_share(ids: list[list[int]], block: int, seed: int, size: int) -> None:
    requests = list(of_hashes(ids, block))
    tokens = ChainTokens(of_hashes(ids, block), np.arange(500, 500 + size), seed)
    assert tokens.overlap_tokens == 0
    prompts = [prompt(tokens, request) for request in requests]
    for first, second in combinations(range(len(ids)), 2):
        assert common(prompts[first], prompts[second]) == block * common(ids[first], ids[second])
    assert all(len(made) == request.prompt_tokens for made, request in zip(prompts, requests, strict=True))
    assert all(500 <= each < 500 + size for made in prompts for each in made)


@pytest.mark.parametrize(
    "word", ["chat", "rag", "in=60-90,out=5,prefix=40:3", "in=30,out=4,turns=4", "in=90,out=4,hit=0.5"]
)
def test_a_words_prompts_share_what_their_pieces_say(word: str) -> None:
    workload = word_of(word).generate(60, 5.0, 3)
    tokens = ChainTokens(workload, np.arange(1000, 30000), 7)
    requests = list(workload)
    prompts = [prompt(tokens, request) for request in requests]
    shared = 0
    for first, second in combinations(requests, 2):
        wanted = 0
        for one, other in zip(first.pieces, second.pieces, strict=False):
            wanted += min(one[1], other[1]) if one[0] == other[0] else 0
            if one != other:
                break
        shared += wanted
        assert common(prompts[first.request_id], prompts[second.request_id]) == wanted
    assert shared or word == "in=30"


def test_fewer_ids_than_branches_is_said_and_bounded() -> None:
    ids = [[place] for place in range(200)]
    workload = of_hashes(ids, 8)
    tokens = ChainTokens(workload, np.arange(20), 1)
    prompts = [prompt(tokens, request) for request in workload]
    assert tokens.overlap_tokens == 1
    overlaps = {common(first, second) for first, second in combinations(prompts, 2)}
    assert overlaps == {0, 1}


def test_equal_seeds_give_equal_prompts_and_others_share_nothing() -> None:
    workload = word_of("in=64,out=4").generate(20, 5.0, 3)
    alphabet = np.arange(1000, 30000)
    first, again, other = (
        [prompt(ChainTokens(workload, alphabet, seed), request) for request in workload] for seed in (1, 1, 2)
    )
    assert first == again
    assert max(common(one, two) for one in first for two in other) <= 1
