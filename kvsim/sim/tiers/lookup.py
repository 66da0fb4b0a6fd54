"""The tiers behind all instances of a system: asked before prompts are computed, told what was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvsim.policy.eviction import Access
from kvsim.policy.prefetch import Prefetch
from kvsim.sim.clock import Clock, Timer
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.engine_connector import EngineConnector
from kvsim.sim.engine.listener import LookUp
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.engine.sequence import Sequence as Queued
from kvsim.sim.keep_last import keep_last
from kvsim.sim.log.detail import Rows
from kvsim.sim.tiers.chunks import Run, chunk_keys, chunk_runs, sliced
from kvsim.sim.tiers.connector import KvConnector
from kvsim.sim.tiers.hierarchy import TierHierarchy
from kvsim.sim.tiers.misses import MissLog, covered
from kvsim.sim.tiers.tier_lookup import TierLookup
from kvsim.sim.tiers.write_back import WriteBack

PAUSE_SHARE = 0.5
"""Share of the mean pause between a session's turns, after which what its next one will ask for is brought up."""


class Tiers:
    """Behind the engines: a prompt whose head lies in a tier is loaded before it is computed."""

    def __init__(
        self,
        clock: Clock,
        hierarchy: TierHierarchy,
        block_size: int,
        prefetch: Prefetch | None,
        cached: Callable[[int, Queued, int], None],
        *,
        waits_for_backup: bool,
        tells: Rows | None,
    ) -> None:
        """``cached(instance, sequence, blocks)``: so many of its first blocks are in that engine's cache now.
        ``waits_for_backup``: a step that computes waits until what it has computed is copied away, if that is written
        through. ``tells``: told of what requests were served with.
        """
        self._clock, self.hierarchy, self._prefetch, self._told = clock, hierarchy, prefetch, cached
        self._block_size, self._tells = block_size, tells
        self._chunk_tokens = hierarchy.rules.chunk_tokens
        self._loads_on_arrival = hierarchy.rules.loads_on_arrival
        self._waits_for_backup = waits_for_backup and hierarchy.rules.writes_through
        self._chunk_blocks = self._chunk_tokens // block_size
        through = hierarchy.rules.writes_through
        self.writes_back = None if through else WriteBack(hierarchy, self._chunk_blocks)
        self._lookups: dict[RequestState, TierLookup] = {}
        self._sessions = Sessions(clock)
        self.log = MissLog(hierarchy)
        self.loads = 0
        self.loaded_tokens = [0] * len(hierarchy.names)
        """By tier: tokens that requests were served with."""

    def asked_by_scheduler(self) -> LookUp | None:
        """What engines are to ask before they admit a prompt; ``None`` where prompts are looked up on arrival."""
        return None if self._loads_on_arrival else self.look_up

    def connector_of(self, instance: int) -> EngineConnector | None:
        """What an engine is to tell and ask instead, where a connector has rules of its own for that."""
        return None

    def backup_s(self, instance: int) -> float:
        """Seconds a computed token that a step of this engine takes longer, as it waits for the copy; 0: not at all."""
        return self.hierarchy.backup_s_per_token(instance) if self._waits_for_backup else 0.0

    def arrive(self, engine: Engine, sequence: Queued) -> None:
        """Queue a routed request: where prompts are looked up on arrival, after what is loaded of it has come."""
        state = sequence.state
        runs = chunk_runs(state.path, (state.request.prompt_tokens - 1) // self._block_size, self._chunk_blocks)
        access = self._sessions.access(state, _end_of(runs))
        self._lookups[state] = TierLookup(runs, access, state.request.prompt_tokens // self._chunk_tokens)
        known_tokens = 0
        if self._loads_on_arrival:
            known_tokens = self.look_up(engine, sequence, engine.cached_tokens(sequence))
        if not known_tokens:
            engine.submit(sequence)

    def look_up(self, engine: Engine, sequence: Queued, cached_tokens: int) -> int:
        """Begin to load what gains on computing it of a prompt whose first ``cached_tokens`` the engine has; returns
        how many it will have then, 0 where nothing is loaded.
        """
        state, connector = sequence.state, self.hierarchy.connectors[engine.instance]
        lookup, prompt_tokens = self._lookups[state], state.request.prompt_tokens
        runs, now = lookup.runs, self._clock.now
        lookup.cached_tokens, lookup.access.time_s = cached_tokens, now
        found = connector.found(runs, cached_tokens, lookup.access)
        if found:
            saves_s = partial(saved_s, engine, prompt_tokens, cached_tokens)
            lookup.segments = connector.gaining(found, runs, saves_s)
        found_tokens, known_tokens = covered(found, cached_tokens), covered(lookup.segments, cached_tokens)
        self.hierarchy.traffic.declined_tokens += found_tokens - known_tokens
        self.log.count(engine.instance, runs, prompt_tokens, found_tokens, known_tokens)
        if not lookup.segments:
            return 0
        self.loads += 1
        lookup.restarts = self.hierarchy.restarts
        state.queue_s += now - state.mark_s
        state.mark_s = now
        connector.load(lookup.segments, runs, lookup.access, partial(self._loaded, engine, sequence, lookup))
        self._bring_up(connector, lookup, known_tokens)
        return known_tokens

    def _bring_up(self, connector: KvConnector, lookup: TierLookup, known_tokens: int) -> None:
        """Bring up what will be asked for behind a prompt of which so much is loaded."""
        prefetch = self._prefetch
        if prefetch is None:
            return
        known = chunk_keys(sliced(lookup.runs, 0, known_tokens // self._chunk_tokens))
        coming = set(known)
        wanted = [key for key in prefetch.after(known, lookup.access) if key not in coming]
        connector.prefetch(wanted, lookup.access)

    def _loaded(self, engine: Engine, sequence: Queued, lookup: TierLookup) -> None:
        """Let KV that has arrived be hit in the engine's cache; where no room was kept for it, as far as there is."""
        if sequence.aborted:
            if not self._loads_on_arrival:
                engine.resume(sequence, 0)
            return
        state, now = sequence.state, self._clock.now
        state.tier_load_s += now - state.mark_s
        state.mark_s = now
        known_tokens = end_tokens = lookup.segments[-1].end
        if self._loads_on_arrival:
            if lookup.restarts == self.hierarchy.restarts:  # else it was on its way to blocks that nobody holds
                engine.insert(sequence.path, end_tokens // self._block_size)
            known_tokens = engine.cached_tokens(sequence)
            engine.submit(sequence)
        else:
            engine.resume(sequence, end_tokens)
        lookup.arrived_tokens = max(0, min(known_tokens, end_tokens) - lookup.cached_tokens)
        self._entered(engine.instance, sequence, known_tokens // self._block_size)

    def prefilled(self, engine: Engine, sequence: Queued) -> None:
        """A step has computed a part of a prompt, perhaps the last: back up what is due."""
        if sequence.ready == sequence.state.request.prompt_tokens:
            self.computed(engine, sequence, sequence.ready)

    def computed(self, engine: Engine, sequence: Queued, tokens: int) -> None:
        """Back up what this engine has computed of a request: its first ``tokens`` have KV there."""
        lookup = self._lookups.get(sequence.state)
        if lookup is not None:
            self.came(engine.instance, sequence.path, tokens // self._block_size, lookup)

    def lookup(self, state: RequestState) -> TierLookup | None:
        """The lookup of a request, for ``came``, should KV of it come once it is complete."""
        return self._lookups.get(state)

    def came(self, instance: int, path: Path, blocks: int, lookup: TierLookup) -> None:
        """Back up what is new, in whole chunks, where an engine has the first ``blocks`` blocks of a request's path."""
        if self.writes_back is not None:
            self.writes_back.entered(instance, path, blocks)
        first, count, runs = lookup.stored_chunks, blocks // self._chunk_blocks, lookup.runs
        if count <= first:
            return
        if count > _end_of(runs):
            runs = chunk_runs(path, blocks, self._chunk_blocks)
        if first or count < _end_of(runs):
            runs = sliced(runs, first, count)
        self.log.computed(runs)
        if self.writes_back is None:
            self._store(self.hierarchy.connectors[instance], runs, lookup)
        lookup.stored_chunks = count

    def _store(self, connector: KvConnector, runs: list[Run], lookup: TierLookup) -> None:
        """Write through what is to be written of chunks that have been computed."""
        if not self.hierarchy.rules.writes_generated:
            generated = sliced(runs, lookup.prompt_chunks, _end_of(runs))
            if generated:
                connector.refuse(generated)
                runs = sliced(runs, 0, lookup.prompt_chunks)
        if runs:
            connector.store(runs, lookup.access)

    def served(self, state: RequestState) -> tuple[int, int]:
        """Close a complete request; returns its hit tokens from the engine's own cache, and those that tiers gave."""
        lookup = self._lookups.pop(state, None)
        if lookup is None:
            return state.hit_tokens, 0
        loaded = self._loaded_hits(state, lookup)
        left, lost = loaded, -loaded
        for segment in lookup.segments:
            size = segment.end - segment.first
            tokens = min(left, size)
            self.loaded_tokens[segment.tier_number] += tokens
            if self._tells is not None and tokens:
                self._tells.add((state.request.request_id, segment.tier_number, tokens))
            left -= tokens
            lost += size
        self.hierarchy.traffic.lost_tokens += lost
        if self._prefetch is not None:
            self._foresee(state, lookup, self._prefetch)
        return state.hit_tokens - loaded, loaded

    def aborted(self, engine: Engine, sequence: Queued) -> None:
        """The client of a request has gone, which its engine is told next: what was loaded of it is lost."""
        lookup = self._lookups.pop(sequence.state, None)
        if lookup is not None:
            self.hierarchy.traffic.lost_tokens += sum([segment.end - segment.first for segment in lookup.segments])

    def forget(self, most: int) -> None:
        """Keep at most so many sessions, and chains that are stored nowhere."""
        self._sessions.forget(most)
        self.log.forget(most)
        self.hierarchy.directory.forget(most)

    def _loaded_hits(self, state: RequestState, lookup: TierLookup) -> int:
        """Hit tokens that tiers gave."""
        return max(0, min(state.hit_tokens - lookup.cached_tokens, lookup.arrived_tokens))

    def load_begun(self, instance: int, lookup: TierLookup, known_tokens: int) -> None:
        """Take note of a load with which a request will have ``known_tokens``."""
        self.loads += 1
        self._bring_up(self.hierarchy.connectors[instance], lookup, known_tokens)

    def entered(self, instance: int, sequence: Queued, known_tokens: int) -> None:
        """Take note that a request's first ``known_tokens`` can be hit in an engine's cache."""
        self._entered(instance, sequence, known_tokens // self._block_size)

    def _entered(self, instance: int, sequence: Queued, blocks: int) -> None:
        if not blocks:
            return
        if self.writes_back is not None:
            self.writes_back.entered(instance, sequence.path, blocks)
        self._told(instance, sequence, blocks)

    def _foresee(self, state: RequestState, lookup: TierLookup, prefetch: Prefetch) -> None:
        """Bring up what a session's next prompt will ask for, before it is due."""
        pause_s = self._sessions.ended(state)
        wanted = prefetch.after(chunk_keys(lookup.runs), lookup.access)
        if not wanted or pause_s <= 0:
            return
        connector, access = self.hierarchy.connectors[state.prefill_instance], lookup.access

        def bring_up(_: Timer) -> None:
            connector.prefetch(wanted, access)

        self._clock.schedule(self._clock.now + PAUSE_SHARE * pause_s, callback=bring_up)


class Sessions:
    """What a server knows of sessions: how many turns they have had, and how long they pause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns: dict[int, int] = {}
        self._ended_s: dict[int, float] = {}
        self._pauses_s, self._num_pauses = 0.0, 0

    def access(self, state: RequestState, blocks: int) -> Access:
        """What policies are told of a prompt that has come and has ``blocks`` chunks."""
        request, access = state.request, Access()
        session = request.session_id
        access.index, access.blocks, access.session_id = request.request_id, blocks, session
        access.time_s = self._clock.now
        if session >= 0:
            access.turn = self._turns.pop(session, 0)
            self._turns[session] = access.turn + 1
            ended_s = self._ended_s.pop(session, -1.0)
            if ended_s >= 0:
                self._pauses_s += self._clock.now - ended_s
                self._num_pauses += 1
        return access

    def forget(self, most: int) -> None:
        """Keep at most so many sessions, those that came last."""
        keep_last(self._turns, most)
        keep_last(self._ended_s, most)

    def ended(self, state: RequestState) -> float:
        """Note that a turn has its answer; returns the mean pause so far, in seconds, 0 where none is known."""
        session = state.request.session_id
        if session < 0:
            return 0.0
        self._ended_s.pop(session, None)
        self._ended_s[session] = self._clock.now
        return self._pauses_s / self._num_pauses if self._num_pauses else 0.0


def _end_of(runs: list[Run]) -> int:
    """How many chunks a prompt of these has."""
    return runs[-1][2] if runs else 0


def saved_s(engine: Engine, num_tokens: int, cached_tokens: int, known_tokens: int) -> float:
    """Seconds of computing that it saves when ``num_tokens`` are known up to there instead of where they are cached.

    The last token is computed whatever is known.
    """
    alone_s, known_tokens = engine.step_time.prefill_alone_s, min(known_tokens, num_tokens - 1)
    return alone_s(num_tokens - cached_tokens, cached_tokens) - alone_s(num_tokens - known_tokens, known_tokens)
