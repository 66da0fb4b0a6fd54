"""The decoding sequences of one engine, as sums that stay right while every one of them grows by a token a step."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from kvsim.sim.engine.sequence import NOBODY, Sequence

_MOST_GONE: Final = 64
"""Entries of sequences that have left which are kept at least until their turn comes."""


class _Bases:
    """A bag of numbers, of which the largest is asked for. It has no sequences: one that has left would be kept."""

    __slots__ = ("_counts", "_negative")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._negative: list[int] = []
        """A heap that has every number negated once at least; some that have left are in it until their turn."""

    def add(self, base: int) -> None:
        count = self._counts.get(base, 0)
        self._counts[base] = count + 1
        if not count:
            heappush(self._negative, -base)
            if len(self._negative) > 2 * len(self._counts) + _MOST_GONE:
                self._negative = [-number for number in self._counts]
                heapify(self._negative)

    def remove(self, base: int) -> None:
        """Take out ``base``, which is in."""
        count = self._counts[base] - 1
        if count:
            self._counts[base] = count
        else:
            del self._counts[base]

    def largest(self) -> int | None:
        """``None`` where there is none."""
        negative = self._negative
        while negative:
            if -negative[0] in self._counts:
                return -negative[0]
            heappop(negative)
        return None


class DecodeBatch:
    """A count, a sum and a histogram instead of a list.

    Sequence i has ``base_i + steps`` computed tokens, so lengths never need updating: the total is ``sum(base) +
    n * steps``, and the sequences that need a new block in the next step are those with ``base = -steps`` modulo the
    block size. A heap keyed by finish step tells who ends next.
    """

    __slots__ = (
        "_bases",
        "_block_size",
        "_ends",
        "base_sum",
        "needs_longest",
        "num",
        "num_measured",
        "residues",
        "steps",
        "version",
    )

    def __init__(self, block_size: int, needs_longest: bool) -> None:
        self.num = 0
        self.num_measured = 0
        """Sequences whose inter-token latencies count."""
        self.steps = 0
        """Decode steps that are scheduled."""
        self.version = 0
        """Changes whenever the membership does."""
        self._block_size = block_size
        self.base_sum = 0
        """Sum of ``base``: the next step reads ``base_sum + num * (steps + 1)`` KV tokens."""
        self.residues = [0] * block_size
        """Sequences by ``base`` modulo the block size."""
        self._ends: list[tuple[int, int, Sequence]] = []
        self.needs_longest = needs_longest
        self._bases = _Bases()

    def add(self, sequence: Sequence) -> None:
        """``sequence`` decodes from the next step on, with ``computed`` and ``remaining`` as they stand."""
        base = sequence.base = sequence.computed - self.steps
        sequence.finish_step = self.steps + sequence.remaining
        sequence.decoding = True
        self.num += 1
        self.num_measured += sequence.state.measured
        self.version += 1
        self.base_sum += base
        self.residues[base % self._block_size] += 1
        heappush(self._ends, (sequence.finish_step, sequence.serial, sequence))
        if self.needs_longest:
            self._bases.add(base)
        if len(self._ends) > 2 * self.num + _MOST_GONE:
            self._forget_gone()

    def _forget_gone(self) -> None:
        """Keep no entry of sequences that have left before their end."""
        self._ends = [
            entry for entry in self._ends if entry[2].decoding and entry[:2] == (entry[2].finish_step, entry[2].serial)
        ]
        heapify(self._ends)

    def remove(self, sequence: Sequence) -> None:
        """``sequence`` leaves; its ``computed`` and ``remaining`` are settled."""
        sequence.computed = sequence.base + self.steps
        sequence.remaining = sequence.finish_step - self.steps
        sequence.decoding = False
        self.num -= 1
        self.num_measured -= sequence.state.measured
        self.version += 1
        self.base_sum -= sequence.base
        self.residues[sequence.base % self._block_size] -= 1
        if self.needs_longest:
            self._bases.remove(sequence.base)

    def pop_finished(self) -> list[Sequence]:
        """Take out the sequences whose last token the latest step gave, in the order they were admitted."""
        ends, steps = self._ends, self.steps
        if not ends or ends[0][0] > steps:
            return NOBODY
        finished: list[Sequence] = []
        while ends and ends[0][0] <= steps:
            _, serial, sequence = heappop(ends)
            if sequence.decoding and sequence.finish_step == steps and sequence.serial == serial:
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
    def longest_tokens(self) -> int:
        """KV tokens of the longest sequence in the next step; 0 unless the step time asks for it."""
        base = self._bases.largest()
        return 0 if base is None else self.steps + 1 + base

    def blocks_needed(self, first: int, count: int) -> int:
        """New blocks that steps ``[first, first + count)`` from here need."""
        needed = self.num * (count // self._block_size)
        rest = count % self._block_size
        if rest:
            residues = self.residues
            last = -(self.steps + first) % self._block_size
            low = last - rest + 1
            if low < 0:
                needed += sum(residues[: last + 1]) + sum(residues[low:])
            else:
                needed += sum(residues[low : last + 1])
        return needed

    def blocks_by_start_s(self, first: int, count: int, steps_before: int, first_s: float, slope_s: float) -> float:
        """Block-seconds: ``blocks_needed``, each block times when the step that takes it begins.

        ``steps_before`` steps ran before step 0 from here, the i-th of all takes ``first_s + i slope_s``. Each residue
        modulo the block size is a series in steps of a block, whose sums are closed forms.
        """
        size, residues = self._block_size, self.residues
        cycles, rest, width = float(count // size), count % size, float(size)
        place = -(self.steps + first) % size
        before, total, half_s = float(steps_before + first), 0.0, 0.5 * slope_s
        for offset in range(min(count, size)):
            sequences = residues[place]
            if sequences:
                times = cycles + 1.0 if offset < rest else cycles
                later = 0.5 * width * times * (times - 1.0)
                linear = times * before + later
                squares = before * (linear + later) + later * width * (2.0 * times - 1.0) / 3.0
                total += float(sequences) * (linear * first_s + half_s * (squares - linear))
            before += 1.0
            place = place - 1 if place else size - 1
        return total

    def steps_within(self, free_blocks: int, first: int, limit: int) -> int:
        """How many steps from ``first`` on, at most ``limit``, ``free_blocks`` suffice for."""
        if self.num * (limit // self._block_size + 1) <= free_blocks:
            return limit
        cycles = min(limit // self._block_size, free_blocks // self.num)
        steps, left = cycles * self._block_size, free_blocks - cycles * self.num
        while steps < limit:
            left -= self.residues[-(self.steps + first + steps) % self._block_size]
            if left < 0:
                return steps
            steps += 1
        return limit
