"""What stands behind an instance's own KV cache: tiers of memory, the ways there, and what moves between them.

A prompt that finds its head in a tier is loaded before it is queued: the blocks enter the engine's prefix cache once
they have arrived. What is computed, or evicted from the engine's cache, goes the other way without anybody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvsim.cache.chunks import is_shared
from kvsim.cache.tier import Tier
from kvsim.clock import Clock
from kvsim.fabric.port import Way, book, ends_s, starts_s
from kvsim.policy.eviction import Access


@dataclass(frozen=True)
class Rules:
    """How chunks move, the same for all instances."""

    chunk_tokens: int
    chunk_bytes: float
    writes_through: bool
    """Computed chunks go to every tier; else evicted ones to the next tier alone."""
    inclusive: bool
    """A chunk that is loaded stays where it was."""
    promotes: bool
    """A chunk that is loaded from a tier enters those above it."""
    recomputes: bool
    """What is computed faster than it is loaded is computed."""
    most_write_wait_s: float
    """A write that would have to wait longer for its port is given up."""


class Level:
    """A tier as one instance sees it."""

    __slots__ = ("_read", "_write", "dropped_chunks", "loaded_tokens", "read_bytes", "tier", "written_bytes")

    def __init__(self, tier: Tier, read: Callable[[int], Way], write: Callable[[int], Way]) -> None:
        """``read(key)``, ``write(key)``: the way of a transfer that begins with that chunk."""
        self.tier, self._read, self._write = tier, read, write
        self.loaded_tokens = self.dropped_chunks = 0
        self.read_bytes = self.written_bytes = 0.0

    def read_way(self, key: int) -> Way:
        return self._read(key)

    def write_way(self, key: int) -> Way:
        return self._write(key)


class Segment(NamedTuple):
    """Tokens ``[first, end)`` of a prompt that one level has."""

    level: int
    first: int
    end: int


@dataclass
class Movements:
    """Chunks that went from one place to another, and why; summed over instances."""

    demoted_chunks: int = 0
    promoted_chunks: int = 0
    backed_up_chunks: int = 0
    prefetched_chunks: int = 0
    declined_tokens: int = 0
    """Found in a tier, and computed because that was faster."""
    lost_tokens: int = 0
    """Loaded, and evicted again before they were used."""


class Backing:
    """The levels behind one instance, the nearest first."""

    __slots__ = ("_clock", "_rules", "levels", "movements")

    def __init__(self, clock: Clock, levels: Sequence[Level], rules: Rules, movements: Movements) -> None:
        self._clock, self.levels, self._rules, self.movements = clock, levels, rules, movements

    def found(self, keys: Sequence[int], cached_tokens: int, access: Access) -> list[Segment]:
        """The levels that have what follows the ``cached_tokens``, each run of chunks as one segment."""
        chunk_tokens = self._rules.chunk_tokens
        segments: list[Segment] = []
        first, place = cached_tokens, cached_tokens // chunk_tokens
        while place < len(keys):
            level = self._level_of(keys[place], access)
            if level < 0:
                break
            place += 1
            while place < len(keys) and self._level_of(keys[place], access) == level:
                place += 1
            segments.append(Segment(level, first, place * chunk_tokens))
            first = place * chunk_tokens
        return segments

    def worth_loading(
        self, segments: list[Segment], keys: Sequence[int], saves_s: Callable[[int], float]
    ) -> list[Segment]:
        """The head of ``segments`` whose loading, at present queues, gains most on computing it.

        ``saves_s(tokens)``: what is saved when the prompt is known up to there.
        """
        if not self._rules.recomputes:
            return segments
        now, best_gain_s, best = self._clock.now, 0.0, 0
        loaded_s = now
        for count, segment in enumerate(segments, 1):
            loaded_s = max(loaded_s, ends_s(self._way(segment, keys), now, self._bytes(segment)))
            gain_s = saves_s(segment.end) - (loaded_s - now)
            if gain_s > best_gain_s:
                best_gain_s, best = gain_s, count
        self.movements.declined_tokens += sum(segment.end - segment.first for segment in segments[best:])
        return segments[:best]

    def load(self, segments: list[Segment], keys: Sequence[int], access: Access) -> float:
        """Book the loading; returns when the last byte will have arrived."""
        rules, done_s = self._rules, self._clock.now
        access.time_s = done_s
        for segment in segments:
            level = self.levels[segment.level]
            done_s = max(done_s, book(self._way(segment, keys), self._clock.now, self._bytes(segment)))
            level.loaded_tokens += segment.end - segment.first
            level.read_bytes += self._bytes(segment)
            for place in range(segment.first // rules.chunk_tokens, segment.end // rules.chunk_tokens):
                self._moved_up(segment.level, keys[place], access)
        return done_s

    def store(self, keys: Sequence[int], access: Access) -> None:
        """Chunks that the engine has computed, or has evicted: back them up.

        What a tier has already counts as used there.
        """
        access.time_s = self._clock.now
        for number, level in enumerate(self.levels):
            missing = level.tier.use(keys, access)
            if missing:
                self._write(number, missing, access)
            if not self._rules.writes_through:
                return

    def prefetch(self, keys: Sequence[int], access: Access) -> None:
        """Bring chunks of lower levels up to the first, of those that others can ask for too."""
        by_level: dict[int, list[int]] = {}
        for key in keys:
            number = self._level_of(key, access) if is_shared(key) else -1
            if number > 0:
                by_level.setdefault(number, []).append(key)
        for number, found in by_level.items():
            level, num_bytes = self.levels[number], len(found) * self._rules.chunk_bytes
            book(level.read_way(found[0]), self._clock.now, num_bytes)
            level.read_bytes += num_bytes
            self.movements.prefetched_chunks += len(found)
            self._write(0, found, access)

    def has(self, key: int) -> bool:
        """Whether a level has the chunk."""
        return any(key in level.tier for level in self.levels)

    def _level_of(self, key: int, access: Access) -> int:
        """The nearest level that has it, -1 where none does."""
        for number, level in enumerate(self.levels):
            if level.tier.has(key, access):
                return number
        return -1

    def _way(self, segment: Segment, keys: Sequence[int]) -> Way:
        return self.levels[segment.level].read_way(keys[segment.first // self._rules.chunk_tokens])

    def _bytes(self, segment: Segment) -> float:
        return (segment.end - segment.first) * self._rules.chunk_bytes / self._rules.chunk_tokens

    def _moved_up(self, number: int, key: int, access: Access) -> None:
        """A chunk of that level has been loaded."""
        level, rules = self.levels[number], self._rules
        if key not in level.tier:
            return
        if not rules.inclusive:
            level.tier.discard(key)
        elif not rules.writes_through:
            level.tier.use((key,), access)
        if rules.promotes and number:
            self.movements.promoted_chunks += 1
            self._write(0, [key], access)

    def _write(self, number: int, chunks: list[int], access: Access) -> None:
        """Send chunks to a level; they are there once they have been written."""
        level, rules, now = self.levels[number], self._rules, self._clock.now
        way = level.write_way(chunks[0])
        if starts_s(way, now) - now > rules.most_write_wait_s:
            level.dropped_chunks += len(chunks)
            return
        done_s = book(way, now, len(chunks) * rules.chunk_bytes)
        level.written_bytes += len(chunks) * rules.chunk_bytes
        self.movements.backed_up_chunks += len(chunks)
        self._clock.ring_at(done_s, callback=lambda _: self._written(number, chunks, access))

    def _written(self, number: int, chunks: list[int], access: Access) -> None:
        access.time_s = self._clock.now
        victims = self.levels[number].tier.store_all(chunks, access)
        if victims and number + 1 < len(self.levels) and not self._rules.writes_through:
            below = self.levels[number + 1].tier
            fresh = [key for key in victims if key not in below]
            if fresh:
                self.movements.demoted_chunks += len(fresh)
                self._write(number + 1, fresh, access)
