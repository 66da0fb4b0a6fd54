"""Longest prefix match: whoever finds most of its prompt in the cache is admitted first (SGLang's ``lpm``)."""

from __future__ import annotations

from collections.abc import Sequence

Path = tuple[tuple[int, int, int], ...]

MOST_WAITING = 128
"""Above so many, first come first served: SGLang finds the sorting too dear then."""
FEW_TOKENS = 32
"""A prompt with at most this much cached may wait for one in the same queue that will compute as much of it."""


def longest_prefix(paths: Sequence[Path], hits: Sequence[int], block_size: int) -> list[int]:
    """By cached blocks, most first, equals in their order.

    Of several prompts that share what is not cached yet, the first goes ahead and the others go last, so that they
    will find it: computing it in all of them at once would be in vain.
    """
    count = len(paths)
    if count > MOST_WAITING:
        return list(range(count))
    seen: dict[int, int] = {}
    late = [False] * count
    for place in range(count):
        if hits[place] * block_size > FEW_TOKENS:
            continue
        if _shared_blocks(paths[place], seen) * block_size >= FEW_TOKENS:
            late[place] = True
        else:
            for chain, first, end in paths[place]:
                seen[chain] = max(seen.get(chain, 0), end - first)
    # Of a prompt that is cached whole the last token is computed again.
    known = [min(hits[place] * block_size, paths[place][-1][2] * block_size - 1) for place in range(count)]
    return sorted(range(count), key=lambda place: 0 if late[place] else -1 - known[place])


def _shared_blocks(path: Path, seen: dict[int, int]) -> int:
    """How many of the path's first blocks one of those seen has, too."""
    blocks = 0
    for chain, first, end in path:
        found = min(seen.get(chain, 0), end - first)
        blocks += found
        if found < end - first:
            break
    return blocks
