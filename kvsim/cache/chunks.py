"""The units in which KV leaves an instance: chunks of a prompt, each named after its whole prefix."""

from __future__ import annotations

from kvsim.cache.table import Path

_PLACE_BITS = 20


def chunk_keys(path: Path, blocks: int, chunk_blocks: int) -> list[int]:
    """Names of the full chunks of ``chunk_blocks`` blocks among the first ``blocks`` blocks of ``path``, in order.

    A chunk belongs to the chain its last block lies in: equal chain and equal place mean an equal prefix. Even names
    are of chains that requests share, odd ones of those that one request has to itself.
    """
    keys: list[int] = []
    place, end_block = 0, chunk_blocks
    for chain, _, end in path:
        prefix = abs(chain) << _PLACE_BITS + 1 | (chain < 0)
        last = min(end, blocks)
        while end_block <= last:
            keys.append(prefix | place << 1)
            place += 1
            end_block += chunk_blocks
        if last == blocks:
            break
    return keys


def chunk_key(chain: int, place: int) -> int:
    """The name of a prompt's chunk number ``place``, whose last block lies in that chain."""
    return abs(chain) << _PLACE_BITS + 1 | place << 1 | (chain < 0)


def chunk_place(key: int) -> int:
    """The number of the chunk in its prompt."""
    return key >> 1 & (1 << _PLACE_BITS) - 1


def is_shared(key: int) -> bool:
    """Whether another request can ever ask for this chunk."""
    return not key & 1
