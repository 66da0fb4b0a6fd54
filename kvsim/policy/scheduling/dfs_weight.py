"""Depth first by weight: those that wait below one cached prefix are admitted together (SGLang's ``dfs-weight``)."""

from __future__ import annotations

from collections.abc import Sequence

Path = tuple[tuple[int, int, int], ...]
Node = tuple[int, int]
"""A chain, and how many of its first blocks are cached and wanted."""

ROOT: Node = (-1, -1)


def dfs_weight(paths: Sequence[Path], hits: Sequence[int], block_size: int) -> list[int]:
    """Through the tree of cached prefixes, the child first below which most wait, those below a node before its own."""
    ends = [_ends(path, blocks) for path, blocks in zip(paths, hits, strict=True)]
    depths: dict[int, list[int]] = {}
    for chain, blocks in dict.fromkeys(end for found in ends for end in found):
        depths.setdefault(chain, []).append(blocks)
    own: dict[Node, list[int]] = {ROOT: []}
    weight: dict[Node, int] = {ROOT: len(paths)}
    children: dict[Node, dict[Node, None]] = {ROOT: {}}
    for place, found in enumerate(ends):
        node = ROOT
        for chain, blocks in found:
            for depth in sorted(depth for depth in depths[chain] if depth <= blocks):
                child = (chain, depth)
                children[node][child] = None
                node = child
                children.setdefault(node, {})
                own.setdefault(node, [])
                weight[node] = weight.get(node, 0) + 1
        own[node].append(place)
    return _visited(children, own, weight)


def _ends(path: Path, hits: int) -> list[Node]:
    """The chains of the cached head, each with how far it goes."""
    return [(chain, min(end, hits) - first) for chain, first, end in path if first < hits]


def _visited(children: dict[Node, dict[Node, None]], own: dict[Node, list[int]], weight: dict[Node, int]) -> list[int]:
    """Without recursion: chains of nodes are as long as a conversation has turns."""
    order: list[int] = []
    stack: list[tuple[Node, bool]] = [(ROOT, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.extend(own[node])
            continue
        stack.append((node, True))
        heaviest_last = sorted(children[node], key=lambda child: weight[child])
        stack.extend((child, False) for child in heaviest_last)
    return order
