"""Prompts that begin with one of a few shared prefixes, also so many or so long that a given share of all is a hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.hits import most_before, token_hit_rate
from kvsim.workload.info import NONE_ALIKE, WorkloadInfo
from kvsim.workload.workload import Floats, Ints, Workload

EXACT = 0.01
"""How near a hit rate is to the one asked for, at the least."""
BLOCKS_TOKENS = (512, 16, 1)
"""Prefixes are whole blocks, so that caches of blocks have the hit rate: Mooncake's or, of short prompts, vLLM's."""


@dataclass(frozen=True)
class Prefixes:
    """Shared heads of prompts, drawn evenly. With neither tokens nor a hit rate nothing is shared."""

    count: int = 1
    tokens: int | None = None
    """The length of each; ``None``: the whole blocks that the hit rate needs, 0 tokens without one."""
    hit: float | None = None
    """The share of all prompt tokens that a cache that forgets nothing has. Only so many prompts as it takes begin with
    a prefix."""


NOTHING_SHARED = Prefixes()


def prefixed(
    arrival_s: Floats, prompts: Ints, answers: Ints, prefixes: Prefixes, random: np.random.Generator, source: str
) -> Workload:
    """Requests in arrival order, of which each may begin with a shared prefix, up to all of its prompt but one token.

    Raises ``WorkloadError`` where so many requests cannot have the hit rate within ``EXACT``.
    """
    which = random.integers(prefixes.count, size=len(prompts))
    carried = _carried(prompts, which, prefixes, random)
    own = -1 - np.arange(len(prompts), dtype=np.int64)
    tokens = np.stack((carried, prompts - carried), axis=1).ravel()
    chain = np.stack((which, own), axis=1).ravel()
    columns: dict[str, Any] = {
        "prompt_tokens": prompts.astype(np.int32),
        "output_tokens": answers.astype(np.int32),
        "output_chain": own,
        "piece_offsets": np.concatenate(([0], np.cumsum(tokens > 0)))[::2],
        "piece_chain": chain[tokens > 0],
        "piece_tokens": tokens[tokens > 0].astype(np.int32),
    }
    rate = token_hit_rate(**columns)
    info = WorkloadInfo(source, "synthetic", infinite_cache_hit_rate_tokens=rate, notes=_notes(carried, prefixes, rate))
    return Workload(arrival_s=arrival_s, session_id=np.full(len(prompts), -1, dtype=np.int64), info=info, **columns)


def _notes(carried: Ints, prefixes: Prefixes, rate: float) -> tuple[str, ...]:
    if not carried.any():
        return (NONE_ALIKE,)
    carriers = f"{np.count_nonzero(carried):,} of {len(carried):,} prompts"
    heads = f"one of {prefixes.count:,} prefixes" if prefixes.count > 1 else "the same prefix"
    return (
        f"{carriers} begin with {heads} of {int(carried.max()):,} tokens: a cache that forgets nothing hits {rate:.1%}",
    )


def _carried(prompts: Ints, which: Ints, prefixes: Prefixes, random: np.random.Generator) -> Ints:
    """The tokens of a shared prefix that each prompt begins with."""
    if prefixes.hit is None:
        return np.minimum(prefixes.tokens or 0, prompts - 1)
    wanted, order = prefixes.hit * int(prompts.sum()), random.permutation(len(prompts))

    def missed(found: Ints) -> float:
        return abs(_seen(which, found) - wanted) / int(prompts.sum())

    if prefixes.tokens is not None:
        found = _so_many(np.minimum(prefixes.tokens, prompts - 1), which, wanted, order)
    else:
        shortest = int(_least(lambda tokens: np.minimum(tokens, prompts - 1), which, wanted, int(prompts.max())).max())
        for block in BLOCKS_TOKENS:
            whole = np.minimum(-(-shortest // block) * block, (prompts - 1) // block * block)
            found = _so_many(whole, which, wanted, order)
            if missed(found) <= EXACT:
                break
    if missed(found) > EXACT:
        got = _seen(which, found) / int(prompts.sum())
        raise WorkloadError(
            f"a hit rate of {prefixes.hit:g} with {len(prompts):,} requests and {_words(prefixes)}: the nearest is "
            f"{got:.3g}; allowed: what so many requests can have within {EXACT:g}"
        )
    return found


def _so_many(reach: Ints, which: Ints, wanted: float, order: Ints) -> Ints:
    """``reach`` of as many requests as have the hits wanted, the first of ``order``; the others have none."""

    def carried(carriers: int) -> Ints:
        found = np.zeros_like(reach)
        found[order[:carriers]] = reach[order[:carriers]]
        return found

    return _least(carried, which, wanted, len(reach))


def _words(prefixes: Prefixes) -> str:
    tokens = "" if prefixes.tokens is None else f" of {prefixes.tokens:,} tokens"
    return f"{prefixes.count:,} prefix{'es' if prefixes.count > 1 else ''}{tokens}"


def _least(carried: Callable[[int], Ints], which: Ints, wanted: float, most: int) -> Ints:
    """What ``carried`` of the number from 0 to ``most`` is whose hits are nearest to ``wanted``: they grow with it."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if _seen(which, carried(middle)) < wanted:
            low = middle + 1
        else:
            high = middle
    either = (carried(max(low - 1, 0)), carried(low))
    return min(either, key=lambda found: abs(_seen(which, found) - wanted))


def _seen(which: Ints, carried: Ints) -> int:
    """Tokens that an earlier request had."""
    return int(np.minimum(carried, most_before(which, carried)).sum())
