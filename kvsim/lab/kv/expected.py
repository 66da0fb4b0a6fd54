"""Hits by arithmetic: which tokens of a prompt vLLM's prefix cache has, request by request.

Whole blocks are found, from the first one on, and never the prompt's last token: ``(tokens - 1) // block_size`` blocks
at most. What was sent before is known where requests come one after the other and the cache holds all of it. Where they
overlap, a hit is known only where it is the same whoever comes first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kvsim.lab.kv.deployed import CacheFacts
from kvsim.lab.kv.families import Pieces, prompts_in
from kvsim.lab.kv.phases import Phase

OVERLAP = "requests overlap: who comes first decides"
EVICTS = "the KV cache does not hold all that is sent: what is evicted decides"
UNKNOWN_SIZE = "nobody knows how much the KV cache holds"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is expected of one phase."""

    hits: tuple[int | None, ...]
    """Tokens found cached, a place a counted request; ``None``: arithmetic does not know."""
    why: str = ""
    """Why some are not known."""

    @property
    def total(self) -> int | None:
        """Tokens of all of them; ``None`` where one is not known."""
        known = [hit for hit in self.hits if hit is not None]
        return sum(known) if len(known) == len(self.hits) else None


class _Sent:
    """What an engine has computed: of each chain the first tokens."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def shared(self, prompt: Pieces) -> int:
        """Tokens that this prompt has in common with what was sent."""
        found = 0
        for chain, tokens in prompt:
            known = min(self._known.get(chain, 0), tokens)
            found += known
            if known < tokens:
                break
        return found

    def add(self, prompt: Pieces) -> None:
        for chain, tokens in prompt:
            self._known[chain] = max(self._known.get(chain, 0), tokens)


def hits_of(shared: int, tokens: int, block_size: int) -> int:
    """Tokens found of a prompt that has its first ``shared`` ones in common with earlier ones."""
    return min(shared // block_size, (tokens - 1) // block_size) * block_size


def expected(phases: Sequence[Phase], facts: CacheFacts) -> list[Expected]:
    """What is expected of the phases of one engine, which it meets in this order."""
    if not phases[0].caching:
        return [Expected(hits=(0,) * len(phase.counted)) for phase in phases]
    sent, found = _Sent(), []
    blocks = 0
    for phase in phases:
        for prompt in prompts_in(phase.warm_up) if phase.warm_up is not None else ():
            blocks += _blocks(phase, prompt, sent, facts.block_size)
            sent.add(prompt)
        least, most, new_blocks = _bounds(phase, sent, facts.block_size)
        blocks += new_blocks
        found.append(_weighed(least, most, _reason(phase, blocks, facts)))
    return found


def _reason(phase: Phase, blocks: int, facts: CacheFacts) -> str:
    """Why no hit above none can be told."""
    if facts.inexact:
        return facts.inexact
    if facts.blocks is None:
        return UNKNOWN_SIZE
    return EVICTS if blocks > facts.blocks else ""


def _weighed(least: list[int], most: list[int], reason: str) -> Expected:
    """Where nothing is shared nothing is found, on whatever server."""
    if reason:
        hits = tuple(0 if high == 0 else None for high in most)
        return Expected(hits=hits, why=reason if None in hits else "")
    hits = tuple(low if low == high else None for low, high in zip(least, most, strict=True))
    return Expected(hits=hits, why=OVERLAP if None in hits else "")


def _bounds(phase: Phase, sent: _Sent, block_size: int) -> tuple[list[int], list[int], int]:
    """Hits at least and at most, and the blocks that are taken, at most; ``sent`` has all of it then.

    At least is found what was there before the phase; at most, what any other of its requests has too.
    """
    prompts = list(prompts_in(phase.counted))
    least, most, blocks = [], [], 0
    if phase.counted.max_concurrency == 1:
        for prompt in prompts:
            least.append(hits_of(sent.shared(prompt), _tokens(prompt), block_size))
            blocks += _blocks(phase, prompt, sent, block_size)
            sent.add(prompt)
        return least, least, blocks
    least = [hits_of(sent.shared(prompt), _tokens(prompt), block_size) for prompt in prompts]
    blocks = sum(_blocks(phase, prompt, sent, block_size) for prompt in prompts)
    longest = _longest(prompts)
    for prompt in prompts:
        others = _common(prompt, longest)
        most.append(hits_of(max(sent.shared(prompt), others), _tokens(prompt), block_size))
    for prompt in prompts:
        sent.add(prompt)
    return least, most, blocks


def _longest(prompts: Sequence[Pieces]) -> dict[int, list[int]]:
    """Tokens of each chain in the two requests that have most of it."""
    found: dict[int, list[int]] = defaultdict(list)
    for prompt in prompts:
        for chain, tokens in prompt:
            found[chain] = sorted((*found[chain], tokens), reverse=True)[:2]
    return found


def _common(prompt: Pieces, longest: dict[int, list[int]]) -> int:
    """Tokens that this prompt has in common with another of the phase."""
    found = 0
    for chain, tokens in prompt:
        first, second = (*longest[chain], 0)[:2]
        others = second if first == tokens else first
        found += min(tokens, others)
        if others < tokens:
            break
    return found


def _blocks(phase: Phase, prompt: Pieces, sent: _Sent, block_size: int) -> int:
    """Blocks that a request takes beside those it finds."""
    tokens, answer = _tokens(prompt), int(phase.counted.output_tokens[0])
    return -(-(tokens + answer) // block_size) - hits_of(sent.shared(prompt), tokens, block_size) // block_size


def _tokens(prompt: Pieces) -> int:
    return sum(tokens for _, tokens in prompt)
