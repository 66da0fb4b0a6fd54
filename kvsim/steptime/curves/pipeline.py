"""Steps of an instance whose layers are stages of a pipeline: what a batch takes on each, and on its way on."""

from __future__ import annotations

from typing import Any

from kvsim.steptime.curves.base import ENDLESS, StepTime
from kvsim.steptime.curves.coefficients import Coefficients

Send = tuple[float, float]
"""Seconds from a stage to the next: of a batch, and of each of its tokens."""


class PipelineStepTime(StepTime):
    """Times of steps that have all stages to themselves, one after the other; ``stages_s`` is what an engine asks."""

    __slots__ = ("sends", "stages", "work_shares")

    def __init__(
        self,
        stages: tuple[StepTime, ...],
        sends: tuple[Send, ...],
        coefficients: Coefficients,
        work_shares: tuple[float, ...] = (),
    ) -> None:
        """``sends``: one fewer than ``stages``. ``coefficients``: the formula that comes nearest to a pipeline that is
        full, with as many batches as there are stages taken for one step. ``work_shares``: of the attention work that
        the first stage tells, what each stage has; none: all have as much.
        """
        super().__init__(coefficients)
        self.stages, self.sends = stages, sends
        self.work_shares = work_shares or (1.0,) * len(stages)

    def __reduce__(self) -> tuple[Any, ...]:
        return PipelineStepTime, (self.stages, self.sends, self.coefficients, self.work_shares)

    @property
    def needs_longest(self) -> bool:
        """Whether the longest sequence of a batch matters to any stage."""
        return any(stage.needs_longest for stage in self.stages)

    def stages_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> list[float]:
        """Seconds of a batch on each stage; arguments as of ``mixed_s``."""
        found: list[float] = []
        for stage, share in zip(self.stages, self.work_shares, strict=True):
            if seqs == decodes:
                found.append(stage.decode_span(decodes, kv_tokens, longest_tokens)[0])
            else:
                found.append(stage.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, chunk_work * share))
        return found

    def send_s(self, stage: int, tokens: int) -> float:
        """Seconds in which a batch goes from a stage to the next."""
        latency_s, token_s = self.sends[stage]
        return latency_s + token_s * tokens

    def sends_s(self, tokens: int) -> float:
        """Seconds in which a batch goes from stage to stage, on its whole way."""
        return sum([latency_s + token_s * tokens for latency_s, token_s in self.sends])

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of one chunk on the first stage."""
        return self.stages[0].chunk_work(chunk_tokens, prefix_tokens)

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """Time of a step that passes all stages and finds them free."""
        time_s = self.sends_s(tokens)
        for stage, share in zip(self.stages, self.work_shares, strict=True):
            time_s += stage.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, chunk_work * share)
        return time_s

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """Time of steps that pass all stages and find them free, one after the other."""
        first_s, slope_s, limit = self.sends_s(decodes), 0.0, ENDLESS
        for stage in self.stages:
            own_s, own_slope_s, own_limit = stage.decode_span(decodes, kv_tokens, longest_tokens)
            first_s += own_s
            slope_s += own_slope_s
            if own_limit < limit:
                limit = own_limit
        return first_s, slope_s, limit

    def drafts_s(self, tokens: int, seqs: int, drafts: int, with_logits: bool) -> float:
        """How much longer a step takes that verifies so many further tokens."""
        own_s = sum([stage.drafts_s(tokens, seqs, drafts, with_logits) for stage in self.stages])
        return own_s + self.sends_s(tokens + drafts) - self.sends_s(tokens)
