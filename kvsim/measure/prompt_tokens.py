"""Token ids for the chains of a workload: prompts share exactly the tokens that their pieces share.

The id at a position of a chain is drawn from a hash of the seed, the chain and the position. Where chains part, a hash
would now and then give two of them the same id. So the first id of a chain is counted on from the one by which the
chain that it leaves goes on: the id at the branch is another one for each of them, as long as there are as many ids as
branches. Of more branches some have several first ids in common, and ``overlap_tokens`` says how many.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kvsim.workload.workload import Ints, Workload

Tokens = npt.NDArray[np.int64]

_ROOT = np.int64(-(2**62))
"""The chain that prompts begin behind."""
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STRIDE = np.uint64(0x9E3779B97F4A7C15)


class ChainTokens:
    """Ids of every chain of a workload, drawn from ``alphabet``."""

    def __init__(self, workload: Workload, alphabet: Tokens, seed: int) -> None:
        """``alphabet``: different ids, two or more of them."""
        self._alphabet, self._seed = alphabet, seed
        self._chains, self._parent, self._left_at, self._rank, most = _branches(workload)
        size = len(alphabet)
        self.overlap_tokens = 0
        """Tokens that two prompts may share beyond what their pieces say."""
        room = size - 1
        while most > room:
            room *= size
            self.overlap_tokens += 1

    def head(self, chain: int, tokens: int) -> Tokens:
        """The first ``tokens`` ids of a chain."""
        place = self._hashes(np.full(tokens, chain, dtype=np.int64), np.arange(tokens, dtype=np.int64))
        at = int(np.searchsorted(self._chains, chain))
        if at < len(self._chains) and self._chains[at] == chain:
            led = min(tokens, self.overlap_tokens + 1)
            place[:led] = self._leading(at, led)
        found: Tokens = self._alphabet[place]
        return found

    def _leading(self, at: int, count: int) -> Tokens:
        """Places in the alphabet of the first ids of a chain: its number among those that leave there, in digits."""
        size = len(self._alphabet)
        parent, left_at, rank = int(self._parent[at]), int(self._left_at[at]), int(self._rank[at])
        found = np.empty(count, dtype=np.int64)
        for digit in range(count):
            base, choices = self._base(parent, left_at, digit), size - 1 if digit == 0 else size
            rank, step = divmod(rank, choices)
            found[digit] = (base + step + (1 if digit == 0 else 0)) % size
        return found

    def _base(self, parent: int, left_at: int, digit: int) -> int:
        """What the ids of all chains that part there are counted from: the one by which the parent goes on."""
        if digit == 0 and parent != _ROOT:
            if left_at <= self.overlap_tokens:
                at = int(np.searchsorted(self._chains, parent))
                return int(self._leading(at, left_at + 1)[left_at])
            return int(self._hashes(np.array([parent]), np.array([left_at]))[0])
        # Behind the last position that a chain can have: a hash of its own for each digit.
        beyond = 2**40 + left_at * 8 + digit
        return int(self._hashes(np.array([parent]), np.array([beyond]))[0])

    def _hashes(self, chain: Ints, position: Ints) -> Tokens:
        """Places in the alphabet: SplitMix64 over seed, chain and position."""
        with np.errstate(over="ignore"):
            mixed = _mix(np.uint64(self._seed % 2**64) * _STRIDE + _STRIDE)
            mixed = _mix(mixed ^ chain.astype(np.uint64))
            mixed = _mix(mixed + (position.astype(np.uint64) + np.uint64(1)) * _STRIDE)
        places: Tokens = (mixed % np.uint64(len(self._alphabet))).astype(np.int64)
        return places


def _mix(state: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return np.asarray(state ^ (state >> np.uint64(31)), dtype=np.uint64)


def _branches(workload: Workload) -> tuple[Ints, Ints, Ints, Ints, int]:
    """Chains in ascending order; of each the chain it leaves, after how many tokens of that, its number among those
    that leave there too; and how many leave at one place at most."""
    chain, tokens = workload.piece_chain, workload.piece_tokens
    if not len(chain):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing, nothing, 0
    before = np.concatenate(([_ROOT], chain[:-1]))
    left_at = np.concatenate(([0], tokens[:-1])).astype(np.int64)
    first = workload.piece_offsets[:-1][np.diff(workload.piece_offsets) > 0]
    before[first], left_at[first] = _ROOT, 0
    chains, at = np.unique(chain, return_index=True)
    parent, left = before[at], left_at[at]
    order = np.lexsort((at, left, parent))
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = (np.diff(parent[order]) != 0) | (np.diff(left[order]) != 0)
    run = np.cumsum(starts) - 1
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.flatnonzero(starts)[run]
    return chains, parent, left, rank, int(np.bincount(run).max())
