"""Step times of an engine that decodes speculatively: what is verified, and what drafting takes behind each step.

A step computes the target model on all its tokens, drafts among them; logits are made of each draft as of each
sequence. Then the drafter runs, once over the same tokens for the first draft, and over the sequences of the step for
each further one. All of this is one step: nothing of it overlaps on the GPU.
"""

from __future__ import annotations

from typing import Any

from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.coefficients import Coefficients


class SpeculativeStepTime(StepTime):
    """Times of steps whose decoding sequences verify ``num_tokens`` drafts each, unless they say how many."""

    __slots__ = ("_passes", "drafter", "num_tokens", "target")

    def __init__(self, target: StepTime, drafter: StepTime | None, num_tokens: int, coefficients: Coefficients) -> None:
        """``drafter``: of one of its passes; ``None``: drafts cost nothing. ``coefficients``: the formula that comes
        nearest."""
        super().__init__(coefficients)
        self.target, self.drafter, self.num_tokens = target, drafter, num_tokens
        self._passes = num_tokens - 1

    def __reduce__(self) -> tuple[Any, ...]:
        return SpeculativeStepTime, (self.target, self.drafter, self.num_tokens, self.coefficients)

    @property
    def needs_longest(self) -> bool:
        """As of the target, or of the drafter."""
        return self.target.needs_longest or (self.drafter is not None and self.drafter.needs_longest)

    def chunk_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of the target alone: ``drafter`` has its own."""
        return self.target.chunk_work(chunk_tokens, prefix_tokens)

    def draft_work(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Attention work of the drafter, as ``chunk_work`` is of the target."""
        return 0.0 if self.drafter is None else self.drafter.chunk_work(chunk_tokens, prefix_tokens)

    def step_s(
        self,
        prefilled: int,
        chunks: int,
        decodes: int,
        drafts: int,
        kv_tokens: int,
        longest_tokens: int,
        work: float,
        draft_work: float,
    ) -> float:
        """Time of a step that prefills so many tokens in ``chunks``, while ``decodes`` sequences decode that have
        ``drafts`` drafts in all."""
        found = pass_s(self.target, prefilled, chunks, decodes, kv_tokens, longest_tokens, work)
        found += self.target.drafts_s(prefilled + decodes, chunks + decodes, drafts, True)
        drafter = self.drafter
        if drafter is not None:
            found += pass_s(drafter, prefilled, chunks, decodes, kv_tokens, longest_tokens, draft_work)
            found += drafter.drafts_s(prefilled + decodes, chunks + decodes, drafts, False)
            if self._passes:
                # Prompts under way are drafted behind, too; what they read has been read in the first pass.
                seqs = chunks + decodes
                read = kv_tokens if decodes else 0
                found += self._passes * drafter.decode_span(seqs, max(read, seqs), longest_tokens)[0]
        return found

    def mixed_s(
        self, tokens: int, seqs: int, decodes: int, kv_tokens: int, longest_tokens: int, chunk_work: float
    ) -> float:
        """``tokens`` without drafts; the drafter's attention is left out."""
        drafts = decodes * self.num_tokens
        prefilled = tokens - decodes
        return self.step_s(prefilled, seqs - decodes, decodes, drafts, kv_tokens, longest_tokens, chunk_work, 0.0)

    def prefill_alone_s(self, chunk_tokens: int, prefix_tokens: int) -> float:
        """Time of a step that holds nothing but this chunk."""
        work, draft_work = self.chunk_work(chunk_tokens, prefix_tokens), self.draft_work(chunk_tokens, prefix_tokens)
        return self.step_s(chunk_tokens, 1, 0, 0, 0, 0, work, draft_work)

    def decode_span(self, decodes: int, kv_tokens: int, longest_tokens: int) -> tuple[float, float, int]:
        """One step: how far sequences get in it decides the next one."""
        drafts = decodes * self.num_tokens
        return self.step_s(0, 0, decodes, drafts, kv_tokens, longest_tokens, 0.0, 0.0), 0.0, 1


def pass_s(
    model: StepTime,
    prefilled: int,
    chunks: int,
    decodes: int,
    kv_tokens: int,
    longest_tokens: int,
    work: float,
) -> float:
    """One pass of a model, as if no sequence had drafts."""
    if chunks or not decodes:
        tokens, seqs = prefilled + decodes, chunks + decodes
        return model.mixed_s(tokens, seqs, decodes, kv_tokens, longest_tokens, work)
    return model.decode_span(decodes, kv_tokens, longest_tokens)[0]
