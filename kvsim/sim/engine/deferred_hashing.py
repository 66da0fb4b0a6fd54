"""Decoding sequences that extend chains which others may hit: their blocks are hashed when somebody looks."""

from __future__ import annotations

from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.sequence import Sequence


class DeferredHashing:
    """Decoding sequences by the shared chains that they extend.

    What their blocks hold follows from the step count, so nothing is kept step by step.
    """

    __slots__ = ("_batch", "_block_size", "_by_chain", "_pool", "lag")

    def __init__(self, pool: BlockPool, batch: DecodeBatch, block_size: int, lag: int) -> None:
        self._pool, self._batch, self._block_size = pool, batch, block_size
        self.lag = lag
        """Tokens of a decoding sequence that are scheduled and not known, so that no block with them has a hash."""
        self._by_chain: dict[int, list[Sequence]] = {}

    def add(self, sequence: Sequence) -> None:
        """Take in a sequence that decodes from the next step on."""
        begun = sequence.computed // self._block_size
        for key, _, end in reversed(sequence.path):
            if end <= begun:
                return
            if key >= 0:
                self._by_chain.setdefault(key, []).append(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Forget a sequence that decodes no more."""
        if not self._by_chain:
            return
        for key, _, _ in sequence.path:
            deferred = self._by_chain.get(key)
            if deferred is not None and sequence in deferred:
                deferred.remove(sequence)
                if not deferred:
                    del self._by_chain[key]

    def on(self, path: Path) -> bool:
        """Whether somebody extends a chain of ``path``."""
        return bool(self._by_chain) and any(key in self._by_chain for key, _, _ in path)

    def settle_chains(self, path: Path, scheduled_steps: int, serial: int) -> None:
        """Hash what those on the chains of ``path`` have filled, in the order in which they filled it.

        ``scheduled_steps``: decode steps scheduled beyond those that the batch has counted; in the last of them only
        sequences up to ``serial`` have had their turn.
        """
        if self._by_chain:
            self._settle_those_on(path, scheduled_steps, serial)

    def _settle_those_on(self, path: Path, scheduled_steps: int, serial: int) -> None:
        found: dict[Sequence, int] = {}
        steps = self._batch.steps + scheduled_steps
        for key, _, _ in path:
            for sequence in self._by_chain.get(key, ()):
                found[sequence] = sequence.base + steps if sequence.decoding else sequence.computed
        order = found if len(found) < 2 else sorted(found, key=lambda one: (-found[one], one.serial))
        for sequence in order:
            turn_to_come = scheduled_steps and sequence.decoding and sequence.serial > serial
            held_tokens = found[sequence] - 1 if turn_to_come else found[sequence]
            self.settle(sequence, held_tokens, held_tokens - self.lag_of(sequence))

    def lag_of(self, sequence: Sequence) -> int:
        """Tokens of a decoding sequence that it holds blocks for, and that are not known."""
        return 0 if sequence.skipped_last_step else self.lag

    def settle(self, sequence: Sequence, held_tokens: int, known_tokens: int) -> None:
        """Bring a decoding sequence's blocks up to ``held_tokens``; hash those that ``known_tokens`` fill, unless KV
        before them is still to come."""
        block_size = self._block_size
        sequence.loose = -(-held_tokens // block_size) - sequence.hashed
        if not sequence.is_incoming:
            self._pool.extend(sequence, known_tokens // block_size)
