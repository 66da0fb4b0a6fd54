"""What one engine step computes: sequences that decode, and chunks of prompts."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.steptime.curves.base import StepTime


@dataclass(frozen=True, slots=True)
class Decodes:
    """So many sequences that decode, each on a context of so many tokens, its newest among them."""

    count: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """So many tokens of a prompt behind so many that have KV already."""

    tokens: int
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One step of one engine."""

    decodes: tuple[Decodes, ...] = ()
    chunks: tuple[PromptChunk, ...] = ()

    @property
    def num_decodes(self) -> int:
        return sum(each.count for each in self.decodes)

    @property
    def kv_tokens(self) -> int:
        """KV that the decodes read, of layers without a window."""
        return sum(each.count * each.context_tokens for each in self.decodes)

    @property
    def longest_tokens(self) -> int:
        return max((each.context_tokens for each in self.decodes), default=0)

    @property
    def held_tokens(self) -> int:
        """KV that all of its sequences hold once it has run."""
        return self.kv_tokens + sum(each.tokens + each.prefix_tokens for each in self.chunks)

    @property
    def prefilled_tokens(self) -> int:
        return sum(each.tokens for each in self.chunks)

    @property
    def tokens(self) -> int:
        return self.num_decodes + self.prefilled_tokens

    @property
    def seqs(self) -> int:
        return self.num_decodes + len(self.chunks)

    def chunk_work(self, step_time: StepTime) -> float:
        return sum(step_time.chunk_work(each.tokens, each.prefix_tokens) for each in self.chunks)

    def seconds(self, step_time: StepTime, longest_tokens: int | None = None) -> float:
        """What an engine is charged for the step; ``longest_tokens``: in place of its longest context."""
        longest = self.longest_tokens if longest_tokens is None else longest_tokens
        if not self.chunks:
            return step_time.decode_span(self.num_decodes, self.kv_tokens, longest)[0]
        work = self.chunk_work(step_time)
        return step_time.mixed_s(self.tokens, self.seqs, self.num_decodes, self.kv_tokens, longest, work)
