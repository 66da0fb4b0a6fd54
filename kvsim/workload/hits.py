"""Hit rates of a cache that forgets nothing: the most that any cache can reach on a workload."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kvsim.workload.chains import HashPaths
from kvsim.workload.workload import Ints, Workload


class HitRates(NamedTuple):
    """Shares in 0..1; ``None`` where nothing was counted."""

    all_ids: float | None
    """Ids seen before, over all ids."""
    full_blocks: float | None
    """Ids seen before as a full block, over ids of full blocks."""
    tokens: float | None
    """Tokens of full blocks seen before, over all prompt tokens: partial blocks count as asked for, never as hit."""


def hash_hit_rates(paths: HashPaths, prompt_tokens: Ints, hashed_tokens: Ints | None = None) -> HitRates:
    """The three rates of a trace's own hash ids, in the order of its requests.

    Where ids go on over answers, ``hashed_tokens`` is what they cover: only full blocks of the prompt are asked for,
    and what an earlier prompt or answer had counts as seen.
    """
    full = paths.lengths(prompt_tokens if hashed_tokens is None else hashed_tokens) == paths.block_tokens
    seen_full, asked_full = _seen(paths.ids[full]), np.ones(int(full.sum()), dtype=np.bool_)
    if hashed_tokens is not None:
        ends = (paths.index_in_request() + 1) * paths.block_tokens
        asked_full = (ends <= prompt_tokens[paths.requests()])[full]
    hits = int(np.count_nonzero(seen_full & asked_full))
    of_full = _share(hits, int(asked_full.sum()))
    of_all = _share(int(np.count_nonzero(_seen(paths.ids))), len(paths.ids)) if hashed_tokens is None else of_full
    return HitRates(of_all, of_full, _share(hits * paths.block_tokens, int(prompt_tokens.sum())))


def token_hit_rate(
    prompt_tokens: npt.NDArray[np.int32],
    output_tokens: npt.NDArray[np.int32],
    output_chain: Ints,
    piece_offsets: Ints,
    piece_chain: Ints,
    piece_tokens: npt.NDArray[np.int32],
) -> float:
    """The share of prompt tokens that an earlier request's prompt or answer had; the columns of a workload."""
    _, seen = _seen_in_chains(output_tokens, output_chain, piece_offsets, piece_chain, piece_tokens)
    return float(seen.sum() / prompt_tokens.sum(dtype=np.int64))


def hit_rate(workload: Workload) -> float:
    """``token_hit_rate`` of a workload whose content is known token by token."""
    return token_hit_rate(
        workload.prompt_tokens,
        workload.output_tokens,
        workload.output_chain,
        workload.piece_offsets,
        workload.piece_chain,
        workload.piece_tokens,
    )


def longest_seen_tokens(workload: Workload) -> int:
    """The longest head of any prompt that an earlier request's prompt or answer had; 0 where nothing is shared."""
    seen = seen_tokens(workload)
    return int(seen.max()) if len(seen) else 0


def seen_tokens(workload: Workload) -> Ints:
    """The head of each prompt that an earlier prompt or answer had: what a cache that forgets nothing hits."""
    request, seen = _seen_in_chains(
        workload.output_tokens,
        workload.output_chain,
        workload.piece_offsets,
        workload.piece_chain,
        workload.piece_tokens,
    )
    return np.bincount(request, weights=seen, minlength=len(workload)).astype(np.int64)


def _seen_in_chains(
    output_tokens: npt.NDArray[np.int32],
    output_chain: Ints,
    piece_offsets: Ints,
    piece_chain: Ints,
    piece_tokens: npt.NDArray[np.int32],
) -> tuple[Ints, Ints]:
    """For each place in a chain that requests may share: whose it is, and how many of its tokens came before.

    A chain has one parent path, so whoever reached a place in it has passed everything before: chains can be looked at
    one by one.
    """
    last = piece_offsets[1:] - 1
    continues = piece_chain[last] == output_chain
    answered = output_tokens + np.where(continues, piece_tokens[last], 0)
    # An answer is seen right after its own prompt: it takes the place behind the last piece of its request.
    at = piece_offsets[1:]
    chain = np.insert(piece_chain, at, output_chain)
    reached = np.insert(piece_tokens.astype(np.int64), at, answered)
    asked = np.insert(piece_tokens.astype(np.int64), at, 0)
    request = np.repeat(np.arange(len(output_chain)), np.diff(piece_offsets) + 1)
    shared = chain >= 0
    return request[shared], np.minimum(asked[shared], most_before(chain[shared], reached[shared]))


def _seen(ids: Ints) -> npt.NDArray[np.bool_]:
    """Whether each of ``ids`` stood earlier in it."""
    seen = np.ones(len(ids), dtype=np.bool_)
    seen[np.unique(ids, return_index=True)[1]] = False
    return seen


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def most_before(key: Ints, value: Ints) -> Ints:
    """For each entry the largest value of an earlier entry with the same key, 0 for the first."""
    order = np.argsort(key, kind="stable")
    sorted_key, base = key[order], np.zeros(len(key), dtype=np.int64)
    np.cumsum(sorted_key[1:] != sorted_key[:-1], out=base[1:])
    # Values fit 32 bits: with the number of the group above them, one running maximum starts anew at every group.
    base <<= 32
    del sorted_key
    running = value[order].astype(np.int64, copy=False)
    running += base
    np.maximum.accumulate(running, out=running)
    before = np.zeros_like(base)
    before[1:] = running[:-1]
    before -= base
    most = running
    most[order] = np.maximum(before, 0, out=before)
    return most
