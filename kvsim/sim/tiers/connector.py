"""The connector between an instance's own KV cache and its tiers: what it loads from them, and writes there.

A prompt that finds its head in a tier is loaded before it is scheduled: the blocks enter the engine's prefix cache once
they have arrived. What is computed, or evicted from the engine's cache, goes down without anybody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kvsim.policy.eviction import Access
from kvsim.sim.clock import Clock
from kvsim.sim.log.detail import Rows
from kvsim.sim.tiers.chunks import Run, num_chunks, runs_of, sliced
from kvsim.sim.tiers.ports import Route, Routes, Transfer
from kvsim.sim.tiers.tier import Tier
from kvsim.sim.tiers.transfers import Transfers
from kvsim.sim.tiers.writes import NO_READS, Load, Receiver, Write, Writes


@dataclass(frozen=True)
class Rules:
    """How chunks move, the same for all instances."""

    chunk_tokens: int
    chunk_bytes: float
    writes_through: bool
    """Computed chunks go to every tier; else evicted ones to the next tier alone."""
    writes_generated: bool
    """Chunks of answers are written too; else only those of prompts."""
    inclusive: bool
    """A chunk that is loaded stays where it was."""
    promotes: bool
    """A chunk that is loaded from a tier enters those above it."""
    recomputes: bool
    """What is computed faster than it is loaded is computed."""
    offloads: bool
    """By the rules of vLLM's own connector: what a step has computed is written when it ends, what is loaded stays, and
    what lies before that is not offered again.
    """
    loads_on_arrival: bool
    """A prompt is looked up when it comes; else when it is to be scheduled."""
    most_write_wait_s: float
    """Seconds: a write whose ports need longer for what they have to move already is given up."""


class TierView:
    """A tier as one instance sees it."""

    __slots__ = ("dropped_chunks", "loaded_tokens", "read_bytes", "routes", "tier", "written_bytes")

    def __init__(self, tier: Tier, routes: Routes) -> None:
        self.tier, self.routes = tier, routes
        self.loaded_tokens = self.dropped_chunks = 0
        self.read_bytes = self.written_bytes = 0.0


class TierSegment:
    """Tokens ``[first, end)`` of a prompt that one tier has: the one of that number among an instance's views."""

    __slots__ = ("end", "first", "tier_number")

    def __init__(self, tier_number: int, first: int, end: int) -> None:
        self.tier_number, self.first, self.end = tier_number, first, end


@dataclass
class TierTraffic:
    """Chunks that moved between tiers and instances, or did not, and why; summed over instances."""

    demoted_chunks: int = 0
    promoted_chunks: int = 0
    backed_up_chunks: int = 0
    prefetched_chunks: int = 0
    declined_tokens: int = 0
    """Found in a tier, and computed because that was faster."""
    lost_tokens: int = 0
    """Loaded, and no hits: evicted before they were used, had before a preemption, or the last of a prompt that was
    loaded whole."""


class Offer:
    """What tiers have let in of chunks that were offered."""

    __slots__ = ("is_done", "let_in")

    def __init__(self) -> None:
        self.let_in: list[tuple[int, list[Run]]] = []
        """By the number of a tier: chunks that have room there, and are still to be sent."""
        self.is_done = True
        """No tier would have taken chunks that it had no room for."""


class KvConnector(Receiver):
    """Loads and writes of one instance; ``views`` are its tiers, the nearest first. vLLM calls this a KV connector."""

    __slots__ = ("_clock", "_instance", "_loads", "_rules", "_transfers", "_writes", "on_written", "traffic", "views")

    def __init__(
        self,
        clock: Clock,
        views: list[TierView],
        rules: Rules,
        traffic: TierTraffic,
        transfers: Transfers,
        writes: Writes,
        loads: Rows | None,
        instance: int,
    ) -> None:
        """``loads``: told of every load of this ``instance`` that has come."""
        self._clock, self.views, self._rules, self._loads, self._instance = clock, views, rules, loads, instance
        self.traffic, self._transfers, self._writes = traffic, transfers, writes
        self.on_written: Callable[[], None] | None = None
        """Told whenever a write has come."""

    def found(self, runs: list[Run], cached_tokens: int, access: Access, *, is_own: bool = False) -> list[TierSegment]:
        """The parts of a prompt behind its ``cached_tokens`` that tiers have, up to the first chunk that none has; one
        segment for neighbours of one tier. ``is_own``: chunks that only this request has count, too.
        """
        self._writes.settle(self._clock.now)
        chunk_tokens = self._rules.chunk_tokens
        segments: list[TierSegment] = []
        start, place, last = cached_tokens, cached_tokens // chunk_tokens, -1
        for chain, _, end in runs:
            while place < end:
                tier_number, to = self.nearest(chain, place, end, access, is_own=is_own)
                if tier_number < 0:
                    return segments
                place = to
                if tier_number == last:
                    segments[-1].end = place * chunk_tokens
                else:
                    segments.append(TierSegment(tier_number, start, place * chunk_tokens))
                start, last = place * chunk_tokens, tier_number
        return segments

    def is_coming(self, runs: list[Run], place: int) -> bool:
        """Whether the chunk at that place of a prompt is being written."""
        for chain, first, end in runs:
            if first <= place < end:
                return any(view.tier.is_coming(chain, place) for view in self.views)
        return False

    def is_moving(self) -> bool:
        """Whether anything is being written or read, so that who was refused room may get some."""
        return any(view.tier.is_moving() for view in self.views)

    def nearest(
        self, chain: int, place: int, end: int, access: Access | None = None, *, is_own: bool = False
    ) -> tuple[int, int]:
        """The nearest tier that has that chunk, -1 where none does, and up to where that is so, at most to ``end``.

        ``access``: of who wants to use it. ``is_own``: where only one request has it, that is who.
        """
        if chain < 0 and not is_own:
            return -1, end
        to = end
        for number, view in enumerate(self.views):
            tier = view.tier
            held_to = tier.held_to(chain, place, to) if access is None else tier.usable_to(chain, place, to, access)
            if held_to > place:
                return number, held_to
            to = tier.absent_to(chain, place, to)
        return -1, to

    def gaining(
        self, segments: list[TierSegment], runs: list[Run], saves_s: Callable[[int], float]
    ) -> list[TierSegment]:
        """The head of ``segments`` whose loading, at present queues, gains most on computing it.

        ``saves_s(tokens)``: what is saved when the prompt is known up to there.
        """
        if not self._rules.recomputes:
            return segments
        now, best_gain_s, best = self._clock.now, 0.0, 0
        loaded_s = now
        for count, segment in enumerate(segments, 1):
            for route, num_bytes in self._parts(segment, runs):
                loaded_s = max(loaded_s, self._transfers.ends_s(route, num_bytes))
            gain_s = saves_s(segment.end) - (loaded_s - now)
            if gain_s > best_gain_s:
                best_gain_s, best = gain_s, count
        return segments[:best]

    def wait_s(self, place: int, chain: int) -> float:
        """Seconds that a load of that chain from the tier at that place would be held up by others, at most."""
        return self._transfers.backlog_s(self.views[place].routes.read(chain))

    def load(self, segments: list[TierSegment], runs: list[Run], access: Access, loaded: Callable[[], None]) -> None:
        """Begin the loading; ``loaded()`` once the last byte has arrived."""
        chunk_tokens, transfers = self._rules.chunk_tokens, self._transfers
        access.time_s = self._clock.now
        started: list[Transfer] = []
        by_segment: list[list[Transfer]] = []
        for segment in segments:
            view = self.views[segment.tier_number]
            own: list[Transfer] = []
            for route, num_bytes in self._parts(segment, runs):
                own.append(transfers.start(route, num_bytes))
                view.read_bytes += num_bytes
            started += own
            by_segment.append(own)
            view.loaded_tokens += segment.end - segment.first
            moved = sliced(runs, segment.first // chunk_tokens, segment.end // chunk_tokens)
            self._moved_up(segment.tier_number, moved, access, own)
        if self._loads is not None:
            loaded = partial(self._tell_loaded, self._loads, segments, by_segment, access, self._clock.now, loaded)
        Load(self._clock, started, loaded)

    def pinned(
        self, segments: list[TierSegment], runs: list[Run], access: Access, loaded: Callable[[], None]
    ) -> Callable[[], None]:
        """Pin what is to be loaded; returns ``loaded`` with its release before it."""
        access.time_s = self._clock.now
        chunk_tokens = self._rules.chunk_tokens
        for segment in segments:
            tier = self.views[segment.tier_number].tier
            moved = sliced(runs, segment.first // chunk_tokens, segment.end // chunk_tokens)
            tier.pin(moved, access)
            loaded = partial(_unpin, tier, moved, loaded)
        return loaded

    def _tell_loaded(
        self,
        loads: Rows,
        segments: list[TierSegment],
        transfers: list[list[Transfer]],
        access: Access,
        start_s: float,
        loaded: Callable[[], None],
    ) -> None:
        token_bytes = self._rules.chunk_bytes / self._rules.chunk_tokens
        for segment, own in zip(segments, transfers, strict=True):
            end_s, tokens = max([transfer.arrives_s for transfer in own]), segment.end - segment.first
            row = (access.index, segment.tier_number, start_s, end_s, tokens * token_bytes, tokens, self._instance)
            loads.add(row)
        loaded()

    def store(self, runs: list[Run], access: Access) -> None:
        """Back up chunks that the engine has computed, or has evicted. What a tier has already counts as used there."""
        self.write(self.offer(runs, access), access)

    def offer(self, runs: list[Run], access: Access) -> Offer:
        """Let tiers take room for what they have not of chunks that the engine has computed, or will have. What a tier
        has already counts as used there.
        """
        now, offer = self._clock.now, Offer()
        self._writes.settle(now)
        access.time_s = now
        for number, view in enumerate(self.views):
            missing = view.tier.use(runs, access)
            if missing:
                welcome = view.tier.admitted(missing, access)
                if welcome:
                    offer.let_in.append((number, welcome))
                else:
                    offer.is_done = False
            if not self._rules.writes_through:
                break
        return offer

    def write(self, offer: Offer, access: Access) -> list[Write]:
        """Begin to write what was let in."""
        writes: list[Write] = []
        for number, runs in offer.let_in:
            writes += self._send_all(number, runs, access, NO_READS)
        return writes

    def settle(self) -> None:
        """Let all writes arrive that are done by now."""
        self._writes.settle(self._clock.now)

    def ended(self, access: Access) -> None:
        """The request that asked has its answer."""
        for view in self.views:
            view.tier.ended(access)

    def refuse(self, runs: list[Run]) -> None:
        """Note that chunks which the engine has computed are written nowhere."""
        for view in self.views:
            view.tier.note_refused(runs)
            view.tier.refused += num_chunks(runs)

    def prefetch(self, keys: Sequence[int], access: Access) -> None:
        """Bring chunks, given by name, from farther tiers to the first, if others can ask for them too."""
        now = self._clock.now
        self._writes.settle(now)
        access.time_s = now
        by_tier: dict[int, list[Run]] = {}
        for chain, place, end in runs_of(keys):
            while place < end:
                number, to = self.nearest(chain, place, end, access)
                if number > 0:
                    by_tier.setdefault(number, []).append((chain, place, to))
                place = to
        for number, found in by_tier.items():
            welcome = self.views[0].tier.admitted(found, access)
            if not welcome:
                continue
            view, reads = self.views[number], []
            for run in _by_device(welcome, view.routes):
                num_bytes = num_chunks(run) * self._rules.chunk_bytes
                reads.append(self._transfers.start(view.routes.read(run[0][0]), num_bytes))
                view.read_bytes += num_bytes
            self.traffic.prefetched_chunks += _chunks_of(self._send_all(0, welcome, access, reads))

    def tier_of(self, number: int) -> Tier:
        return self.views[number].tier

    def written(self, now_s: float, number: int, runs: list[Run], access: Access) -> None:
        """Put chunks that have arrived at a tier into it; what they displace goes down, unless tiers are written to at
        once.
        """
        access.time_s = now_s
        victims = self.views[number].tier.store(runs, access)
        if victims and number + 1 < len(self.views) and not self._rules.writes_through:
            lower = self.views[number + 1].tier
            fresh = _absent(lower, victims)
            if fresh:
                self.traffic.demoted_chunks += self._write(number + 1, fresh, access)
        if self.on_written is not None:
            self.on_written()

    def _parts(self, segment: TierSegment, runs: list[Run]) -> list[tuple[Route, float]]:
        """The routes on which a segment comes, and its bytes on each: one, unless its chains lie on several devices."""
        routes, chunk_tokens = self.views[segment.tier_number].routes, self._rules.chunk_tokens
        token_bytes = self._rules.chunk_bytes / chunk_tokens
        moved = sliced(runs, segment.first // chunk_tokens, segment.end // chunk_tokens)
        if not routes.spreads:
            return [(routes.read(moved[0][0]), (segment.end - segment.first) * token_bytes)]
        found: list[tuple[Route, float]] = []
        start = segment.first
        for chain, _, end in moved:
            found.append((routes.read(chain), (end * chunk_tokens - start) * token_bytes))
            start = end * chunk_tokens
        return found

    def _moved_up(self, number: int, runs: list[Run], access: Access, reads: list[Transfer]) -> None:
        """Take note that chunks of a tier are being loaded, by ``reads``."""
        view, rules = self.views[number], self._rules
        if not rules.inclusive:
            view.tier.discard(runs)
        elif not rules.writes_through:
            view.tier.use(runs, access)
        if rules.promotes and number:
            self.traffic.promoted_chunks += self._write(0, runs, access, reads)

    def _write(self, number: int, runs: list[Run], access: Access, reads: list[Transfer] = NO_READS) -> int:
        """Send chunks to a tier, where it lets them in; they are there once they have been written. Returns how many
        are being written.

        ``reads``: by which they come from another tier. They are passed on as they come.
        """
        runs = self.views[number].tier.admitted(runs, access)
        return _chunks_of(self._send_all(number, runs, access, reads)) if runs else 0

    def _send_all(self, number: int, runs: list[Run], access: Access, reads: list[Transfer]) -> list[Write]:
        """Send chunks that a tier lets in; returns what is being written."""
        sent: list[Write] = []
        for part in _by_device(runs, self.views[number].routes):
            self._send(number, part, access, reads, sent)
        return sent

    def _send(self, number: int, runs: list[Run], access: Access, reads: list[Transfer], sent: list[Write]) -> None:
        """Send chunks that go to one device, all or none; what is being written is added to ``sent``."""
        view, rules = self.views[number], self._rules
        chunks = num_chunks(runs)
        route = view.routes.write(runs[0][0])
        if view.tier.is_off or self._transfers.backlog_s(route) > rules.most_write_wait_s:
            view.dropped_chunks += chunks
            view.tier.refuse(runs)
            return
        num_bytes = chunks * rules.chunk_bytes
        transfer = self._transfers.start(route, num_bytes)
        view.written_bytes += num_bytes
        self.traffic.backed_up_chunks += chunks
        sent.append(Write(self._writes, transfer, reads, self, number, runs, access))


def _chunks_of(writes: list[Write]) -> int:
    return sum([num_chunks(write.runs) for write in writes])


def _unpin(tier: Tier, runs: list[Run], loaded: Callable[[], None]) -> None:
    tier.unpin(runs)
    loaded()


def _by_device(runs: list[Run], routes: Routes) -> list[list[Run]]:
    """Chunks by route: those that go together."""
    if len(runs) == 1 or not routes.spreads:
        return [runs]
    return [[run] for run in runs]


def _absent(tier: Tier, runs: list[Run]) -> list[Run]:
    """The part of ``runs`` that the tier has not."""
    found: list[Run] = []
    for chain, place, end in runs:
        while place < end:
            stop = tier.absent_to(chain, place, end)
            if stop > place:
                found.append((chain, place, stop))
            place = tier.held_to(chain, stop, end)
    return found
