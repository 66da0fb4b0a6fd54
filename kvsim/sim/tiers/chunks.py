"""The units in which KV leaves an instance: chunks of a prompt, each named after its whole prefix, and runs of them."""

from __future__ import annotations

from collections.abc import Iterable

from kvsim.sim.engine.block_table import Path

_PLACE_BITS = 20

Run = tuple[int, int, int]
"""``(chain, first, end)``: the chunks ``[first, end)`` of a prompt, which all belong to that chain. Chains below 0 are
of content that one request has to itself; nobody else ever asks for it."""


def chunk_runs(path: Path, blocks: int, chunk_blocks: int) -> list[Run]:
    """The full chunks of ``chunk_blocks`` blocks among the first ``blocks`` blocks of ``path``, in order.

    A chunk belongs to the chain its last block lies in: equal chain and equal place mean an equal prefix.
    """
    runs: list[Run] = []
    place = 0
    for chain, _, end in path:
        last = (end if end < blocks else blocks) // chunk_blocks
        if last > place:
            runs.append((chain, place, last))
            place = last
        if end >= blocks:
            break
    return runs


def num_chunks(runs: list[Run]) -> int:
    """How many chunks there are in all."""
    count = 0
    for _, first, end in runs:
        count += end - first
    return count


def sliced(runs: list[Run], first: int, end: int) -> list[Run]:
    """The chunks ``[first, end)`` of a prompt, as runs."""
    found: list[Run] = []
    for chain, start, stop in runs:
        low, high = (start if start > first else first), (stop if stop < end else end)
        if low < high:
            found.append((chain, low, high))
    return found


def chunk_keys(runs: Iterable[Run]) -> list[int]:
    """The names of the chunks, one by one: even ones of chains that requests share, odd ones of all others."""
    return [chunk_key(chain, place) for chain, first, end in runs for place in range(first, end)]


def runs_of(keys: Iterable[int]) -> list[Run]:
    """Chunks by name as runs, in the same order."""
    runs: list[Run] = []
    for key in keys:
        chain, place = chunk_chain(key), chunk_place(key)
        if runs and runs[-1][0] == chain and runs[-1][2] == place:
            runs[-1] = (chain, runs[-1][1], place + 1)
        else:
            runs.append((chain, place, place + 1))
    return runs


def chunk_key(chain: int, place: int) -> int:
    """The name of a prompt's chunk number ``place``, whose last block lies in that chain."""
    return abs(chain) << _PLACE_BITS + 1 | place << 1 | (chain < 0)


def chunk_chain(key: int) -> int:
    """The chain that a chunk belongs to."""
    chain = key >> _PLACE_BITS + 1
    return -chain if key & 1 else chain


def chunk_place(key: int) -> int:
    """The number of the chunk in its prompt."""
    return key >> 1 & (1 << _PLACE_BITS) - 1
