"""From block hashes to chains: which stream of tokens each part of a prompt is a prefix of."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kvsim.workload.workload import Counts, Ints


class Pieces(NamedTuple):
    """The pieces of all requests in compressed rows, as :class:`kvsim.workload.workload.Workload` holds them."""

    offsets: Ints
    chain: Ints
    tokens: Counts


class HashPaths(NamedTuple):
    """The block hashes of all requests: request ``i`` owns ``ids[offsets[i]:offsets[i + 1]]``.

    Ids are small whole numbers from 0; block ``j`` covers tokens ``[j * block_tokens, (j + 1) * block_tokens)``, the
    last one perhaps fewer.
    """

    offsets: Ints
    ids: Ints
    block_tokens: int

    def taken(self, rows: Ints) -> HashPaths:
        """The paths of some requests, in the order given."""
        counts = np.diff(self.offsets)[rows]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        entries = np.arange(total) + np.repeat(self.offsets[rows] - (ends - counts), counts)
        return HashPaths(np.concatenate(([0], ends)), self.ids[entries], self.block_tokens)

    def within(self, prompt_tokens: Ints) -> HashPaths:
        """Without the ids that lie beyond a request's prompt."""
        needed = -(-prompt_tokens // self.block_tokens)
        counts = np.minimum(np.diff(self.offsets), needed)
        if np.array_equal(counts, np.diff(self.offsets)):
            return self
        request = np.repeat(np.arange(len(counts)), np.diff(self.offsets))
        keep = self.index_in_request() < needed[request]
        return HashPaths(np.concatenate(([0], np.cumsum(counts))), self.ids[keep], self.block_tokens)

    def requests(self) -> Ints:
        """The request that each id belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def index_in_request(self) -> Ints:
        """The place of each id in its request, from 0."""
        index: Ints = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return index

    def lengths(self, prompt_tokens: Ints) -> Ints:
        """The tokens each id covers; ids must not lie beyond the prompt."""
        left: Ints = prompt_tokens[self.requests()] - self.index_in_request() * self.block_tokens
        return np.minimum(left, self.block_tokens)


def pieces_of(paths: HashPaths, prompt_tokens: Ints) -> Pieces:
    """The pieces of every prompt; ``paths`` must not reach beyond the prompts.

    A node of the prefix tree is a hash id behind one particular prefix, so an id that a trace uses behind two prefixes
    is two nodes. A run of nodes that more than one request passes, without a branch between such nodes, is one chain. A
    request may end or leave it anywhere, also inside a block, and positions agree because a node that has children is a
    full block in the requests that go on to them. What only request ``i`` can ever have, its last ids and the tokens no
    id covers, is the chain ``-(i + 1)``.
    """
    node, parent = _tree(paths)
    passes = np.bincount(node, minlength=len(parent))
    request = paths.requests()
    chain = np.where(passes[node] > 1, _shared_chains(parent, passes)[node], -1 - request)
    tokens = paths.lengths(prompt_tokens)
    bare = prompt_tokens - np.bincount(request, weights=tokens, minlength=len(prompt_tokens)).astype(np.int64)
    (uncovered,) = np.nonzero(bare)
    ends = paths.offsets[1:][uncovered]
    return _collapsed(
        np.insert(request, ends, uncovered),
        np.insert(chain, ends, -1 - uncovered),
        np.insert(tokens, ends, bare[uncovered]),
        len(prompt_tokens),
    )


def _tree(paths: HashPaths) -> tuple[Ints, Ints]:
    """The node of every id and the parent of every node; node 0 is the root, its own parent."""
    width = int(paths.ids.max(initial=0)) + 1
    child: dict[int, int] = {}
    parent = [0]
    nodes: list[int] = []
    ids = paths.ids.tolist()
    for start, stop in pairwise(paths.offsets.tolist()):
        node = 0
        for hash_id in ids[start:stop]:
            edge = node * width + hash_id
            known = child.get(edge)
            if known is None:
                known = child[edge] = len(parent)
                parent.append(node)
            node = known
            nodes.append(node)
    return np.array(nodes, dtype=np.int64), np.array(parent, dtype=np.int64)


def _shared_chains(parent: Ints, passes: Ints) -> Ints:
    """The chain of every node that more than one request passes; of no meaning for the others."""
    shared = passes > 1
    children = np.bincount(parent[shared], minlength=len(parent))
    starts: npt.NDArray[np.bool_] = shared & ((children[parent] > 1) | (parent == 0))
    starts[0] = False
    chain = np.cumsum(starts) - 1
    # A parent is numbered before its children, so one pass in order hands every chain down its run of nodes.
    handed_down = chain.tolist()
    begins = starts.tolist()
    for node, above in enumerate(parent.tolist()):
        if not begins[node]:
            handed_down[node] = handed_down[above]
    return np.array(handed_down, dtype=np.int64)


def _collapsed(request: Ints, chain: Ints, tokens: Ints, num_requests: int) -> Pieces:
    """Neighbours of one request on one chain become one piece."""
    changes = (np.diff(request, prepend=-1) != 0) | (np.diff(chain, prepend=chain[:1]) != 0)
    (first,) = np.nonzero(changes)
    counts = np.bincount(request[first], minlength=num_requests)
    return Pieces(
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        chain[first],
        np.add.reduceat(tokens, first).astype(np.int32),
    )
