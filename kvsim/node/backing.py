"""What stands behind an instance's own KV cache: tiers of memory, the ways there, and what moves between them.

A prompt that finds its head in a tier is loaded before it is scheduled: the blocks enter the engine's prefix cache once
they have arrived. What is computed, or evicted from the engine's cache, goes the other way without anybody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvsim.cache.chunks import Run, num_chunks, runs_of, sliced
from kvsim.cache.tier import Tier
from kvsim.clock import Clock
from kvsim.fabric.port import Way, Ways, book, book_from, ends_s, starts_s
from kvsim.node.writes import Receiver, Write, Writes
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
    loads_on_arrival: bool
    """A prompt is looked up when it comes; else when it is to be scheduled."""
    most_write_wait_s: float
    """A write that would have to wait longer for its port is given up."""


class Level:
    """A tier as one instance sees it."""

    __slots__ = ("dropped_chunks", "loaded_tokens", "read_bytes", "tier", "ways", "written_bytes")

    def __init__(self, tier: Tier, ways: Ways) -> None:
        self.tier, self.ways = tier, ways
        self.loaded_tokens = self.dropped_chunks = 0
        self.read_bytes = self.written_bytes = 0.0


class Segment:
    """Tokens ``[first, end)`` of a prompt that one level has."""

    __slots__ = ("end", "first", "level")

    def __init__(self, level: int, first: int, end: int) -> None:
        self.level, self.first, self.end = level, first, end


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


class Backing(Receiver):
    """The levels behind one instance, the nearest first."""

    __slots__ = ("_clock", "_rules", "_writes", "levels", "movements")

    def __init__(
        self, clock: Clock, levels: list[Level], rules: Rules, movements: Movements, writes: Writes
    ) -> None:
        self._clock, self.levels, self._rules = clock, levels, rules
        self.movements, self._writes = movements, writes

    def found(self, runs: list[Run], cached_tokens: int, access: Access) -> list[Segment]:
        """The levels that have what follows the ``cached_tokens`` of a prompt, each stretch as one segment."""
        self._writes.settle(self._clock.now)
        chunk_tokens = self._rules.chunk_tokens
        segments: list[Segment] = []
        start, place, last = cached_tokens, cached_tokens // chunk_tokens, -1
        for chain, _, end in runs:
            while place < end:
                level, to = self.nearest(chain, place, end, access)
                if level < 0:
                    return segments
                place = to
                if level == last:
                    segments[-1].end = place * chunk_tokens
                else:
                    segments.append(Segment(level, start, place * chunk_tokens))
                start, last = place * chunk_tokens, level
        return segments

    def nearest(self, chain: int, place: int, end: int, access: Access | None = None) -> tuple[int, int]:
        """The nearest level that has that chunk, -1 where none does, and up to where that is so, at most to ``end``.

        ``access``: of who wants to use it.
        """
        if chain < 0:
            return -1, end
        to = end
        for number, level in enumerate(self.levels):
            tier = level.tier
            held_to = tier.held_to(chain, place, to) if access is None else tier.usable_to(chain, place, to, access)
            if held_to > place:
                return number, held_to
            to = tier.absent_to(chain, place, to)
        return -1, to

    def worth_loading(self, segments: list[Segment], runs: list[Run], saves_s: Callable[[int], float]) -> list[Segment]:
        """The head of ``segments`` whose loading, at present queues, gains most on computing it.

        ``saves_s(tokens)``: what is saved when the prompt is known up to there.
        """
        if not self._rules.recomputes:
            return segments
        now, best_gain_s, best = self._clock.now, 0.0, 0
        loaded_s = now
        for count, segment in enumerate(segments, 1):
            for way, num_bytes in self._transfers(segment, runs):
                loaded_s = max(loaded_s, ends_s(way, now, num_bytes))
            gain_s = saves_s(segment.end) - (loaded_s - now)
            if gain_s > best_gain_s:
                best_gain_s, best = gain_s, count
        self.movements.declined_tokens += sum(segment.end - segment.first for segment in segments[best:])
        return segments[:best]

    def wait_s(self, place: int, chain: int) -> float:
        """How long a load of that chain from the level at that place would wait before it begins."""
        now = self._clock.now
        return starts_s(self.levels[place].ways.read(chain), now) - now

    def load(self, segments: list[Segment], runs: list[Run], access: Access) -> float:
        """Book the loading; returns when the last byte will have arrived."""
        chunk_tokens, done_s = self._rules.chunk_tokens, self._clock.now
        access.time_s = done_s
        for segment in segments:
            level, arrives_s = self.levels[segment.level], self._clock.now
            for way, num_bytes in self._transfers(segment, runs):
                arrives_s = max(arrives_s, book(way, self._clock.now, num_bytes))
                level.read_bytes += num_bytes
            done_s = max(done_s, arrives_s)
            level.loaded_tokens += segment.end - segment.first
            moved = sliced(runs, segment.first // chunk_tokens, segment.end // chunk_tokens)
            self._moved_up(segment.level, moved, access, arrives_s)
        return done_s

    def store(self, runs: list[Run], access: Access) -> None:
        """Chunks that the engine has computed, or has evicted: back them up.

        What a tier has already counts as used there.
        """
        now = self._clock.now
        self._writes.settle(now)
        access.time_s = now
        for number, level in enumerate(self.levels):
            missing = level.tier.use(runs, access)
            if missing:
                self._write(now, number, missing, access)
            if not self._rules.writes_through:
                return

    def prefetch(self, keys: Sequence[int], access: Access) -> None:
        """Bring chunks, given by name, of lower levels up to the first, of those that others can ask for too."""
        now = self._clock.now
        self._writes.settle(now)
        access.time_s = now
        by_level: dict[int, list[Run]] = {}
        for chain, place, end in runs_of(keys):
            while place < end:
                number, to = self.nearest(chain, place, end, access)
                if number > 0:
                    by_level.setdefault(number, []).append((chain, place, to))
                place = to
        for number, found in by_level.items():
            level, read_s = self.levels[number], now
            for run in _by_device(found, level.ways):
                num_bytes = num_chunks(run) * self._rules.chunk_bytes
                read_s = max(read_s, book(level.ways.read(run[0][0]), now, num_bytes))
                level.read_bytes += num_bytes
            self.movements.prefetched_chunks += num_chunks(found)
            self._write(now, 0, found, access, read_s)

    def written(self, now_s: float, number: int, runs: list[Run], access: Access) -> None:
        """Chunks have arrived at a level."""
        access.time_s = now_s
        victims = self.levels[number].tier.store(runs, access)
        if victims and number + 1 < len(self.levels) and not self._rules.writes_through:
            below = self.levels[number + 1].tier
            fresh = _absent(below, victims)
            if fresh:
                self.movements.demoted_chunks += num_chunks(fresh)
                self._write(now_s, number + 1, fresh, access)

    def _transfers(self, segment: Segment, runs: list[Run]) -> list[tuple[Way, float]]:
        """The ways on which a segment comes, and its bytes on each: one, unless its chains lie on several devices."""
        ways, chunk_tokens = self.levels[segment.level].ways, self._rules.chunk_tokens
        token_bytes = self._rules.chunk_bytes / chunk_tokens
        moved = sliced(runs, segment.first // chunk_tokens, segment.end // chunk_tokens)
        if not ways.spreads:
            return [(ways.read(moved[0][0]), (segment.end - segment.first) * token_bytes)]
        found: list[tuple[Way, float]] = []
        start = segment.first
        for chain, _, end in moved:
            found.append((ways.read(chain), (end * chunk_tokens - start) * token_bytes))
            start = end * chunk_tokens
        return found

    def _moved_up(self, number: int, runs: list[Run], access: Access, arrives_s: float) -> None:
        """Chunks of that level are loaded, and will have arrived then."""
        level, rules = self.levels[number], self._rules
        if not rules.inclusive:
            level.tier.discard(runs)
        elif not rules.writes_through:
            level.tier.use(runs, access)
        if rules.promotes and number:
            self.movements.promoted_chunks += num_chunks(runs)
            self._write(self._clock.now, 0, runs, access, arrives_s)

    def _write(self, now_s: float, number: int, runs: list[Run], access: Access, read_s: float = 0.0) -> None:
        """Send chunks to a level; they are there once they have been written.

        ``read_s``: when the last of them will have been read where they come from. They are passed on as they come.
        """
        level = self.levels[number]
        runs = level.tier.admitted(runs, access)
        if runs:
            for part in _by_device(runs, level.ways):
                self._send(now_s, number, part, access, read_s)

    def _send(self, now_s: float, number: int, runs: list[Run], access: Access, read_s: float) -> None:
        """The same of chunks that go to one device and are let in."""
        level, rules = self.levels[number], self._rules
        chunks = num_chunks(runs)
        way = level.ways.write(runs[0][0])
        start_s = starts_s(way, now_s)
        if start_s - now_s > rules.most_write_wait_s:
            level.dropped_chunks += chunks
            level.tier.refuse(runs)
            return
        num_bytes = chunks * rules.chunk_bytes
        done_s = max(book_from(way, start_s, now_s, num_bytes), read_s)
        level.written_bytes += num_bytes
        self.movements.backed_up_chunks += chunks
        self._writes.add(Write(done_s, self, number, runs, access))


def _by_device(runs: list[Run], ways: Ways) -> list[list[Run]]:
    """Chunks that go one way together."""
    if len(runs) == 1 or not ways.spreads:
        return [runs]
    return [[run] for run in runs]


def _absent(tier: Tier, runs: list[Run]) -> list[Run]:
    """Of these chunks those that the tier has not."""
    found: list[Run] = []
    for chain, place, end in runs:
        while place < end:
            stop = tier.absent_to(chain, place, end)
            if stop > place:
                found.append((chain, place, stop))
            place = tier.held_to(chain, stop, end)
    return found
