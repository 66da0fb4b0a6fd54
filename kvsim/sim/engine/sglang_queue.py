"""The order in which SGLang's scheduler looks at those that wait; looking them up touches the tree and may split it."""

from __future__ import annotations

from collections import deque
from typing import Final

from kvsim.policy.scheduling import FCFS, LOF, LPM
from kvsim.policy.scheduling.lpm import MOST_WAITING, longest_prefix
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.radix import RadixPool
from kvsim.sim.engine.radix_node import RadixNode
from kvsim.sim.engine.sequence import Sequence

REFRESH_PASSES: Final = 32
"""Orders that look nobody up touch the prefixes of those that wait once in so many passes."""


class SglangQueue:
    """Puts those that wait in their order; ``tree``: ``None`` where nothing is cached."""

    __slots__ = ("_page", "_passes", "_policy", "_tree")

    def __init__(self, policy: str, tree: RadixPool | None, page: int) -> None:
        self._policy = policy if tree is not None or policy == LOF else FCFS
        self._tree, self._page = tree, page
        self._passes = 0
        """Passes in which nobody was looked up for the order's sake."""

    def in_order(self, waiting: deque[Sequence]) -> deque[Sequence]:
        """Everybody who waits, whoever is to be admitted first in front."""
        tree, policy, queue = self._tree, self._policy, list(waiting)
        if tree is None or policy in (FCFS, LOF) or (policy == LPM and len(queue) > MOST_WAITING):
            if policy == LOF:
                queue.sort(key=_longest_answer_first)
            self._refresh(queue)
            return deque(queue)
        found = [tree.look_up(sequence.path, sequence.num_tokens // self._page) for sequence in queue]
        if policy == LPM:
            hits = [blocks * self._page for _, blocks in found]
            order = longest_prefix([token_path(sequence) for sequence in queue], hits, 1)
        else:
            order = depth_first(tree.root, [node for node, _ in found])
        return deque([queue[place] for place in order])

    def _refresh(self, queue: list[Sequence]) -> None:
        """Now and then touch what those in front will find, the first of them last."""
        if self._tree is None or not queue:
            return
        if self._passes % REFRESH_PASSES == 0:
            for sequence in reversed(queue[:MOST_WAITING]):
                self._tree.look_up(sequence.path, sequence.num_tokens // self._page)
        self._passes += 1


def token_path(sequence: Sequence) -> Path:
    """What a sequence's known tokens are made of, as entries in tokens."""
    request, first, left = sequence.state.request, 0, sequence.num_tokens
    entries: list[tuple[int, int, int]] = []
    for chain, count in request.pieces:
        taken = min(count, left)
        if taken:
            entries.append((chain, first, first + taken))
        first += taken
        left -= taken
    if left and entries and entries[-1][0] == request.output_chain:
        chain, start, end = entries[-1]
        entries[-1] = (chain, start, end + left)
    elif left:
        entries.append((request.output_chain, first, first + left))
    return tuple(entries)


def depth_first(root: RadixNode, nodes: list[RadixNode]) -> list[int]:
    """Places of ``nodes`` in the order of a walk through their tree: the child first below which most of them lie, of
    equals the one that has been there longer; those below a node before its own.
    """
    own: dict[RadixNode, list[int]] = {}
    weight: dict[RadixNode, int] = {}
    for place, node in enumerate(nodes):
        own.setdefault(node, []).append(place)
        above: RadixNode | None = node
        while above is not None:
            weight[above] = weight.get(above, 0) + 1
            above = above.parent
    order: list[int] = []
    stack: list[tuple[RadixNode, bool]] = [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.extend(own.get(node, ()))
            continue
        stack.append((node, True))
        below = [
            (-weight[child], place, child) for place, child in enumerate(node.children.values()) if child in weight
        ]
        below.sort(key=_weight_and_place, reverse=True)
        stack.extend([(child, False) for _, _, child in below])
    return order


def _weight_and_place(entry: tuple[int, int, RadixNode]) -> tuple[int, int]:
    return entry[0], entry[1]


def _longest_answer_first(sequence: Sequence) -> int:
    return -sequence.state.output_tokens
