"""What is known about a workload beside its requests: where it came from, how it was read, what was found in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One thing a trace check found.

    ``line`` is the first line of the file it was found on (1 is the file's first line), 0 when it is about the whole.
    """

    level: Literal["error", "warning"]
    rule: str
    line: int
    message: str


NONE_ALIKE = "no two requests share content"
"""A note of workloads of which every prompt is unlike all others."""


@dataclass(frozen=True)
class WorkloadInfo:
    """Provenance of a workload. Hit rates are those of an infinite cache, ``None`` where they have no meaning.

    They describe the source as read: one copy of a replicated trace, before any cut to its first requests.
    """

    source: str
    """The file's path, or the generator's name."""
    format: str
    """The trace schema it was read with, ``synthetic`` for generated traffic."""
    sha256: str | None = None
    """Sha256 of the whole file; ``None`` when there is none, or when only the head of a large one was read."""
    hash_block_tokens: int | None = None
    infinite_cache_hit_rate: float | None = None
    """Share of all hash ids, the partial last one of a prompt included, seen before in trace order."""
    infinite_cache_hit_rate_full_blocks: float | None = None
    """Share of the hash ids of full blocks seen before, in a full block too."""
    infinite_cache_hit_rate_tokens: float | None = None
    """Share of prompt tokens that an infinite cache has: those of full blocks seen before, where a trace has hash ids;
    all that an earlier prompt or answer began with, where the content of generated traffic is known token by token."""
    failed_rows: int = 0
    """Rows without prompt or output tokens, whether left out or not."""
    lint: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """Plain sentences for the reader."""
    generated_known: bool = False
    """Whether a generated token can ever be hit by a later prompt."""
    models: tuple[str, ...] = ()
    """Names of the models that rows of a trace ask, in order of appearance, where that was to be kept."""

    def noted(self, note: str) -> WorkloadInfo:
        """A copy with one more note."""
        return replace(self, notes=(*self.notes, note))
