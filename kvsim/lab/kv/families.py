"""Families of prompts: what the prompts of a phase share, by name, and as chains of a workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.errors import ConfigError, nearest
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Floats, Ints, Workload

UNIQUE = "matched_unique_prefix"
"""The family whose prompts share nothing: by its prompts a cold phase is cold."""
Pieces = tuple[tuple[int, int], ...]
"""One prompt: ``(chain, tokens)``."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What prompts share: a prefix, a suffix behind it, both or nothing."""

    what: str
    prefix_tokens: int
    suffix_tokens: int = 128
    prefixes: int | None = 1
    """Different ones, taken in turn; ``None``: every request has its own."""
    suffixes: int | None = None
    """Different ones behind each prefix, taken in turn; ``None``: every request has its own."""
    spread: float = 0.0
    """Suffixes are up to this share longer or shorter, drawn evenly."""
    sends_once: bool = False
    """No prompt is sent twice, before a phase neither: a warm-up has its prefixes, and suffixes of nobody's."""


FAMILIES: dict[str, Family] = {
    "shared_prefix": Family(what="one prefix for all, suffixes of their own", prefix_tokens=1024),
    "shared_prefix_long": Family(what="one prefix for all, twice as long", prefix_tokens=2048),
    UNIQUE: Family(what="prompts as long that share nothing", prefix_tokens=2048, prefixes=None),
    "variants": Family(what="four prefixes, two suffixes behind each", prefix_tokens=1024, prefixes=4, suffixes=2),
    "no_repeat_variants": Family(
        what="four prefixes, and no prompt twice", prefix_tokens=1024, prefixes=4, spread=0.5, sends_once=True
    ),
    "extra_long": Family(what="one prefix of 4k tokens for all", prefix_tokens=4096),
    "ultra_long": Family(what="one prefix of 16k tokens for all", prefix_tokens=16_384),
    "mega_long": Family(what="one prefix of 64k tokens for all", prefix_tokens=65_536),
    "repeated": Family(what="the very same prompt again and again", prefix_tokens=1024, suffixes=1),
}


def find_family(name: str, key: str = "family") -> Family:
    """Raises ``ConfigError`` for an unknown name, with the nearest."""
    if name not in FAMILIES:
        raise ConfigError(f"{key} = '{name}': unknown; {nearest(name, FAMILIES)}")
    return FAMILIES[name]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the prompts of a repeat are: equal places of its phases are equally long."""

    prefix_tokens: int
    suffix_tokens: tuple[int, ...]
    """A place a request."""

    def __len__(self) -> int:
        return len(self.suffix_tokens)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return self.prefix_tokens + max(self.suffix_tokens)


def lengths_of(
    family: Family, requests: int, prefix_tokens: int | None, suffix_tokens: int | None, seeds: Sequence[int]
) -> Lengths:
    """``None``: the family's own. ``seeds``: of the generator, where lengths are drawn."""
    prefix = family.prefix_tokens if prefix_tokens is None else prefix_tokens
    suffix = family.suffix_tokens if suffix_tokens is None else suffix_tokens
    apart = int(family.spread * suffix)
    if not apart:
        return Lengths(prefix_tokens=prefix, suffix_tokens=(suffix,) * requests)
    random = np.random.default_rng(np.random.SeedSequence(list(seeds)))
    drawn = random.integers(max(1, suffix - apart), suffix + apart, requests, endpoint=True)
    return Lengths(prefix_tokens=prefix, suffix_tokens=tuple(drawn.tolist()))


class Chains:
    """Numbers for chains, so that no two phases of a repeat share one by accident."""

    def __init__(self) -> None:
        self._next = 0

    def prompts(self, family: Family, lengths: Lengths) -> list[Pieces]:
        """Prompts of ``family`` that share nothing with what was made before."""
        count = len(lengths)
        prefixes, suffixes = family.prefixes or count, family.suffixes or count
        first = self._next
        first_suffix = first + prefixes
        self._next = first_suffix + prefixes * suffixes
        found = []
        for place, tokens in enumerate(lengths.suffix_tokens):
            prefix, turn = place % prefixes, place // prefixes
            # A suffix has one prefix before it for good: a chain has one parent.
            suffix = first_suffix + prefix * suffixes + turn % suffixes
            found.append(pieces_of((first + prefix, lengths.prefix_tokens), (suffix, tokens)))
        return found

    def behind(self, prompts: Sequence[Pieces]) -> list[Pieces]:
        """Prompts with the prefixes of ``prompts``, as long, whose suffixes nobody has."""
        found = [(*pieces[:-1], (self._next + place, pieces[-1][1])) for place, pieces in enumerate(prompts)]
        self._next += len(prompts)
        return found


def pieces_of(*pieces: tuple[int, int]) -> Pieces:
    """A prompt without its empty pieces."""
    return tuple((chain, tokens) for chain, tokens in pieces if tokens)


def workload_of(
    prompts: Sequence[Pieces], output_tokens: int, arrival_s: Floats | None, concurrency: int | None, source: str
) -> Workload:
    """Requests at ``arrival_s``; ``None``: ``concurrency`` at a time, from the beginning on."""
    flat = [piece for pieces in prompts for piece in pieces]
    count = len(prompts)
    return Workload(
        arrival_s=np.zeros(count) if arrival_s is None else arrival_s,
        prompt_tokens=np.array([sum(tokens for _, tokens in pieces) for pieces in prompts], dtype=np.int32),
        output_tokens=np.full(count, output_tokens, dtype=np.int32),
        session_id=np.full(count, -1, dtype=np.int64),
        output_chain=-1 - np.arange(count, dtype=np.int64),
        piece_offsets=_offsets(prompts),
        piece_chain=np.array([chain for chain, _ in flat], dtype=np.int64),
        piece_tokens=np.array([tokens for _, tokens in flat], dtype=np.int32),
        info=WorkloadInfo(source=source, format="synthetic"),
        max_concurrency=concurrency if arrival_s is None else None,
    )


def prompts_in(workload: Workload) -> Iterator[Pieces]:
    """The prompts of a workload, in its order."""
    return (request.pieces for request in workload)


def _offsets(prompts: Sequence[Pieces]) -> Ints:
    return np.concatenate(([0], np.cumsum([len(pieces) for pieces in prompts]))).astype(np.int64)
