"""The scheduler's side of vLLM's own offloading connector, for one engine: what is loaded when, and written when.

Source: vLLM 0.32, ``OffloadingConnectorScheduler``, ``OffloadingConnectorWorker`` and ``Scheduler.schedule``;
``tests/vllm/record_offload.py`` records them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvsim.sim.clock import Clock, Timer
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.engine_connector import NOT_YET, EngineConnector
from kvsim.sim.engine.running import RunningRequests
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.tiers.chunks import chunk_keys, chunk_runs, sliced
from kvsim.sim.tiers.connector import KvConnector, TierSegment
from kvsim.sim.tiers.copy_jobs import CopyJob, OffloadCopies
from kvsim.sim.tiers.offload_requests import OffloadRequests
from kvsim.sim.tiers.tier_lookup import TierLookup


class Offloading(EngineConnector):
    """Asks and tells one engine's tiers by vLLM's rules.

    A chunk that is being written, or loaded for another request, is waited for. Room for what a step computes is taken
    when the step is scheduled; what finds none is offered again in each step of its request. What a request has used is
    told when it has ended, behind all that is written. A step waits for copies of blocks that it overwrites.
    """

    __slots__ = (
        "_begins",
        "_chunk_blocks",
        "_chunk_tokens",
        "_clock",
        "_connector",
        "_ended",
        "_fenced",
        "_flushed",
        "_found",
        "_loading",
        "_promised",
        "_refused",
        "_requests",
        "_writes_generated",
    )

    def __init__(
        self,
        clock: Clock,
        connector: KvConnector,
        requests: OffloadRequests,
        chunk_tokens: int,
        block_size: int,
        writes_generated: bool,
    ) -> None:
        self._clock, self._connector, self._requests = clock, connector, requests
        self._chunk_tokens, self._chunk_blocks = chunk_tokens, chunk_tokens // block_size
        self._writes_generated = writes_generated
        self._found: list[TierSegment] = []
        """What was found for the last question, and what of it was promised."""
        self._promised: list[TierSegment] = []
        self._loading: set[int] = set()
        """Chunks that are being loaded."""
        self._begins: list[Callable[[], None]] = []
        """Loads of the step that is being scheduled."""
        self._refused: dict[Sequence, TierLookup] = {}
        """Sequences that have offered chunks in vain, and have not ended."""
        self._ended: list[tuple[TierLookup, Path, int]] = []
        """Requests that have ended since the last scheduling, and how many of their tokens have KV."""
        self._fenced: list[CopyJob] = []
        """Copies of blocks of requests that have ended."""
        self._flushed: list[CopyJob] = []
        """Copies that steps wait for."""

    def ask(self, sequence: Sequence, cached_tokens: int) -> int:
        lookup, connector = self._requests.of(sequence), self._connector
        now, path, chunk_tokens = self._clock.now, sequence.path, self._chunk_tokens
        if any(job.is_pending(now) for job in lookup.jobs):
            return NOT_YET
        runs = chunk_runs(path, sequence.num_tokens // chunk_tokens * self._chunk_blocks, self._chunk_blocks)
        self._found = found = connector.found(runs, cached_tokens, lookup.access, is_own=sequence.resumed)
        known_tokens = found[-1].end if found else cached_tokens
        if connector.is_coming(runs, known_tokens // chunk_tokens):
            return NOT_YET
        self._promised = promised = self._requests.gaining(sequence, found, runs, cached_tokens)
        if not promised:
            return 0
        known_tokens = promised[-1].end
        if self._loading:
            wanted = sliced(runs, cached_tokens // chunk_tokens, known_tokens // chunk_tokens)
            if not self._loading.isdisjoint(chunk_keys(wanted)):
                return NOT_YET
        return known_tokens

    def load(self, sequence: Sequence, cached_tokens: int) -> None:
        lookup, segments, connector = self._requests.of(sequence), self._promised, self._connector
        end = segments[-1].end // self._chunk_tokens
        runs = chunk_runs(sequence.path, end * self._chunk_blocks, self._chunk_blocks)
        keys = chunk_keys(sliced(runs, segments[0].first // self._chunk_tokens, end))
        self._requests.looked_up(sequence, cached_tokens, self._found, segments[-1].end)
        self._requests.loads(sequence, segments[-1].end)
        self._loading.update(keys)
        lookup.stored_chunks = end
        come = partial(self._come, sequence, cached_tokens, segments, keys)
        loaded = connector.pinned(segments, runs, lookup.access, come)
        self._begins.append(partial(connector.load, segments, runs, lookup.access, loaded))

    def _come(self, sequence: Sequence, cached_tokens: int, segments: list[TierSegment], keys: list[int]) -> None:
        self._loading.difference_update(keys)
        self._requests.loaded(sequence, cached_tokens, segments)

    def admitted(self, sequence: Sequence, cached_tokens: int, has_loaded: bool) -> None:
        if not has_loaded:
            self._requests.looked_up(sequence, cached_tokens, self._found, cached_tokens)
        else:
            self._requests.note_given(sequence)

    def ends(self, sequence: Sequence) -> None:
        lookup = self._requests.of(sequence)
        if lookup.jobs or sequence in self._refused:
            lookup.held = self._requests.blocks_of(sequence)

    def end(self, sequence: Sequence, lookup: TierLookup, tokens: int) -> None:
        """A request has ended; its first ``tokens`` have KV."""
        lookup.has_ended = True
        if not lookup.held:
            self.ends(sequence)
        now = self._clock.now
        for job in lookup.jobs:
            if job.is_pending(now) and not self._writes_generated:  # older versions keep those blocks
                job.fence(sequence.path, lookup.held, self._chunk_blocks)
                self._fenced.append(job)
        self._refused.pop(sequence, None)
        self._ended.append((lookup, sequence.path, tokens))

    def needs_steps(self) -> bool:
        now = self._clock.now
        if (self._fenced or self._flushed) and any(job.is_pending(now) for job in self._fenced + self._flushed):
            return True
        return bool(self._refused) and self._connector.is_moving()

    def scheduled(self, scheduler: RunningRequests) -> OffloadCopies | None:
        now = self._clock.now
        self._connector.settle()
        self._flushed = [job for job in self._flushed if job.is_pending(now)]
        for victim in scheduler.preempted:
            self._flushed += [job for job in self._requests.of(victim).jobs if job.is_pending(now)]
        if self._fenced:
            self._flush_fenced(now)
        jobs: list[CopyJob] = []
        if scheduler.chunks or self._refused:
            self._offer_computed(scheduler, jobs)
        if self._ended:
            self._offer_ended(jobs)
        self._requests.given().clear()
        self._begin_loads()
        return OffloadCopies(list(self._flushed), jobs, self._begin_loads) if self._flushed or jobs else None

    def _begin_loads(self) -> None:
        """Begin what is to be loaded, behind the copies that steps wait for; those of a step under way are to begin."""
        if not self._begins or not all(job.has_begun for job in self._flushed):
            return
        start_s = max([job.done_s() for job in self._flushed], default=self._clock.now)
        begins, self._begins = self._begins, []
        for begin in begins:
            if start_s > self._clock.now:
                self._clock.schedule(start_s, callback=partial(_begin, begin))
            else:
                begin()

    def _flush_fenced(self, now: float) -> None:
        """Let the step wait for copies of blocks that were given to somebody else."""
        given = self._requests.given()
        kept: list[CopyJob] = []
        for job in self._fenced:
            if job.is_pending(now):
                (self._flushed if job.is_overwritten(given) else kept).append(job)
        self._fenced = kept

    def _offer_computed(self, scheduler: RunningRequests, jobs: list[CopyJob]) -> None:
        """Offer what the step computes, and what it has of earlier steps that was refused."""
        due = {sequence: sequence.computed + tokens for sequence, tokens in scheduler.chunks}
        if self._refused:
            for sequence in self._refused:
                is_scheduled = sequence in scheduler.running and sequence not in scheduler.stalled
                if is_scheduled and not sequence.ending and sequence not in scheduler.prefilling:
                    due[sequence] = sequence.state.request.prompt_tokens
            due = {sequence: due[sequence] for sequence in sorted(due, key=_serial)}
        for sequence, tokens in due.items():
            lookup = self._requests.of(sequence)
            if self._offer(lookup, sequence.path, tokens, jobs):
                self._refused.pop(sequence, None)
            else:
                self._refused[sequence] = lookup

    def _offer_ended(self, jobs: list[CopyJob]) -> None:
        """Offer what is left of requests that have ended, and tell what they have used."""
        ended, self._ended = self._ended, []
        for lookup, path, tokens in ended:
            before = len(jobs)
            self._offer(lookup, path, tokens, jobs)
            if self._writes_generated:
                continue
            for job in jobs[before:]:
                job.fence(path, lookup.held, self._chunk_blocks)
                is_overwritten = job.is_overwritten(self._requests.given())
                (self._flushed if is_overwritten else self._fenced).append(job)
        for lookup, _, _ in ended:
            self._connector.ended(lookup.access)

    def _offer(self, lookup: TierLookup, path: Path, tokens: int, jobs: list[CopyJob]) -> bool:
        """Offer what is new of a request whose first ``tokens`` have KV; returns whether that is done."""
        first, count = lookup.stored_chunks, tokens // self._chunk_tokens
        if not self._writes_generated and count > lookup.prompt_chunks:
            count = lookup.prompt_chunks
        if count <= first:
            return True
        blocks = self._chunk_blocks
        runs = sliced(chunk_runs(path, count * blocks, blocks), first, count)
        offer = self._connector.offer(runs, lookup.access)
        if offer.let_in:
            job = CopyJob(self._connector, offer, lookup.access)
            lookup.jobs.append(job)
            jobs.append(job)
        if offer.is_done:
            lookup.stored_chunks = count
        return offer.is_done


def _begin(begin: Callable[[], None], _: Timer) -> None:
    begin()


def _serial(sequence: Sequence) -> int:
    return sequence.serial
