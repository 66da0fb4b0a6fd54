"""Step times of an engine whose sequences do not slow each other down: what a run would be without interference."""

from __future__ import annotations

from typing import Any

from kvsim.steptime.curves.base import StepTime


class ApartStepTime(StepTime):
    """A step takes as long as the sequence in it that would take longest alone.

    Sequences still begin and end their steps together, so that a short chunk beside a long one waits for it. Its
    ``mixed_s`` is of the chunks that ``chunk_work`` was asked about since the last one, as engines ask.
    """

    __slots__ = ("_longest_s", "own")

    def __init__(self, own: StepTime) -> None:
        """``own``: of the engine as it is."""
        super().__init__(own.coefficients)
        self.own = own
        self._longest_s = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return ApartStepTime, (self.own,)

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence matters: of those that decode it is the one that takes longest."""
        return True

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """No work that adds up: the chunk's own step is kept for ``mixed_s``."""
        alone_s = self.own.prefill_alone_s(chunk_tokens, prefix_tokens)
        if alone_s > self._longest_s:
            self._longest_s = alone_s
        return 0.0

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step of the chunks asked about, and of sequences that decode on ``longest_tokens`` at most."""
        found_s, self._longest_s = self._longest_s, 0.0
        if decodes:
            alone_s = self.own.decode_alone_s(longest_tokens)
            if alone_s > found_s:
                found_s = alone_s
        return found_s

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """As of the longest sequence alone."""
        return self.own.decode_span(1, longest_tokens, longest_tokens)

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """As of the engine as it is: engines that draft are not asked of."""
        return self.own.drafts_s(tokens, seqs, drafts, with_logits)

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """As of the engine as it is."""
        return self.own.prefill_alone_s(chunk_tokens, prefix_tokens)

    def decode_alone_s(self, kv_tokens: int) -> float:
        """As of the engine as it is."""
        return self.own.decode_alone_s(kv_tokens)
