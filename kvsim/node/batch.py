"""The decoding sequences of one engine, as sums that stay right while every one of them grows by a token a step."""

from __future__ import annotations

from heapq import heappop, heappush

from kvsim.node.sequence import Sequence


class DecodeBatch:
    """A count, a sum and a histogram instead of a list.

    Sequence i has ``base_i + steps`` computed tokens, so lengths never need updating: the total is ``sum(base) +
    n * steps``, and the sequences that need a new block in the next step are those with ``base = -steps`` modulo the
    block size. A heap keyed by finish step tells who ends next.
    """

    __slots__ = ("_base_sum", "_block_size", "_ends", "_longest", "_needs_longest", "_residues", "num", "steps", "version")

    def __init__(self, block_size: int, needs_longest: bool) -> None:
        self.num = 0
        self.steps = 0
        """Decode steps the engine has completed."""
        self.version = 0
        """Changes whenever the membership does."""
        self._block_size = block_size
        self._base_sum = 0
        self._residues = [0] * block_size
        self._ends: list[tuple[int, int, Sequence]] = []
        self._needs_longest = needs_longest
        self._longest: list[tuple[int, int, Sequence]] = []

    def add(self, sequence: Sequence) -> None:
        """``sequence`` decodes from the next step on, with ``computed`` and ``remaining`` as they stand."""
        base = sequence.base = sequence.computed - self.steps
        sequence.finish_step = self.steps + sequence.remaining
        sequence.decoding = True
        self.num += 1
        self.version += 1
        self._base_sum += base
        self._residues[base % self._block_size] += 1
        heappush(self._ends, (sequence.finish_step, sequence.serial, sequence))
        if self._needs_longest:
            heappush(self._longest, (-base, sequence.serial, sequence))

    def remove(self, sequence: Sequence) -> None:
        """``sequence`` leaves; its ``computed`` and ``remaining`` are settled."""
        sequence.computed = sequence.base + self.steps
        sequence.remaining = sequence.finish_step - self.steps
        sequence.decoding = False
        self.num -= 1
        self.version += 1
        self._base_sum -= sequence.base
        self._residues[sequence.base % self._block_size] -= 1

    def pop_finished(self) -> list[Sequence]:
        """Take out the sequences whose last token the latest step gave, in the order they were admitted."""
        finished = []
        ends, steps = self._ends, self.steps
        while ends and ends[0][0] <= steps:
            end, serial, sequence = heappop(ends)
            if sequence.decoding and sequence.finish_step == end and sequence.serial == serial:
                self.remove(sequence)
                finished.append(sequence)
        return finished

    def steps_to_next_finish(self) -> int:
        """Steps until somebody finishes, at least 1; there must be somebody."""
        ends = self._ends
        while True:
            end, serial, sequence = ends[0]
            if sequence.decoding and sequence.finish_step == end and sequence.serial == serial:
                return end - self.steps
            heappop(ends)

    @property
    def kv_tokens(self) -> int:
        """KV tokens that the next step reads: each sequence's computed ones and the one it adds."""
        return self._base_sum + self.num * (self.steps + 1)

    @property
    def longest_tokens(self) -> int:
        """KV tokens of the longest sequence in the next step; 0 unless the step time asks for it."""
        longest = self._longest
        while longest:
            negative_base, serial, sequence = longest[0]
            if sequence.decoding and sequence.base == -negative_base and sequence.serial == serial:
                return self.steps + 1 - negative_base
            heappop(longest)
        return 0

    def blocks_needed(self, first: int, count: int) -> int:
        """New blocks that steps ``[first, first + count)`` from here need."""
        cycles, rest = divmod(count, self._block_size)
        needed = self.num * cycles
        at = -(self.steps + first)
        for step in range(rest):
            needed += self._residues[(at - step) % self._block_size]
        return needed

    @property
    def blocks_needed_next(self) -> int:
        return self._residues[-self.steps % self._block_size]

    def steps_within(self, free_blocks: int, first: int, limit: int) -> int:
        """How many steps from ``first`` on, at most ``limit``, ``free_blocks`` suffice for."""
        if self.num * (limit // self._block_size + 1) <= free_blocks:
            return limit
        cycles = min(limit // self._block_size, free_blocks // self.num)
        steps, left = cycles * self._block_size, free_blocks - cycles * self.num
        while steps < limit:
            left -= self._residues[-(self.steps + first + steps) % self._block_size]
            if left < 0:
                return steps
            steps += 1
        return limit
