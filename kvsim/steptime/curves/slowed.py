"""Step times of a GPU that is slower than its kind: every step takes a constant factor longer."""

from __future__ import annotations

from kvsim.steptime.curves.base import StepTime


class SlowedStepTime(StepTime):
    """Another one's times, each ``factor`` times as long."""

    __slots__ = ("_factor", "_own")

    def __init__(self, own: StepTime, factor: float) -> None:
        super().__init__(own.coefficients)
        self._own, self._factor = own, factor

    @property
    def needs_longest(self) -> bool:
        return self._own.needs_longest

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        return self._own.chunk_work(chunk_tokens, prefix_tokens)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        return self._factor * self._own.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, chunk_work)

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        first_s, slope_s, limit = self._own.decode_span(decodes, kv_tokens, longest_tokens)
        return self._factor * first_s, self._factor * slope_s, limit

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        return self._factor * self._own.drafts_s(tokens, seqs, drafts, with_logits)

    def beside_idle_s(self, tokens: int) -> float:
        return self._factor * self._own.beside_idle_s(tokens)

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        return self._factor * self._own.prefill_alone_s(chunk_tokens, prefix_tokens)

    def decode_alone_s(self, kv_tokens: int) -> float:
        return self._factor * self._own.decode_alone_s(kv_tokens)
