"""The decode side of an engine: room for requests whose KV comes from elsewhere, and their way into the batch."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.clock import Clock, MovableTimer
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.decode_reservation import DecodeReservation
from kvsim.sim.engine.engine_connector import EngineConnector
from kvsim.sim.engine.leaping import LeapingEngine
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.log.detail import EngineDetail
from kvsim.steptime.curves.base import StepTime


class ReceivingEngine(LeapingEngine):
    """The part of an engine that takes sequences in which another one has computed."""

    __slots__ = ("_idle", "present_tokens", "reservation", "reserved_tokens", "seat_waits")

    def __init__(
        self,
        clock: Clock,
        timer: MovableTimer,
        settings: EngineSettings,
        pool: BlockPool,
        step_time: StepTime,
        *,
        stops_at_first_token: bool,
        backup_s: float,
        connector: EngineConnector | None,
        detail: EngineDetail | None,
    ) -> None:
        super().__init__(
            clock,
            timer,
            settings,
            pool,
            step_time,
            stops_at_first_token=stops_at_first_token,
            backup_s=backup_s,
            connector=connector,
            detail=detail,
        )
        self._idle = False
        self.reservation = DecodeReservation(settings.output_margin_tokens)
        self.seat_waits = 0
        """Sequences that found all seats taken when their KV had come."""
        self.reserved_tokens = self.present_tokens = 0
        """Prompt tokens of reserved sequences, and those of them that were cached here already."""

    def reserve(self, sequence: Sequence) -> int | None:
        """Allocate the blocks of a sequence whose KV is to come, if there is room beside the reservations.

        Returns how many tokens of it are cached here already; None when there is no room. Nobody can hit the others
        before ``receive``, as vLLM delays the caching of blocks that a connector fills.
        """
        self.settle_begun()
        scheduler, block_size = self.scheduler, self._block_size
        hits, evictable = scheduler.match(sequence, self._settled)
        blocks = scheduler.new_blocks(sequence, hits)
        room = self.pool.num_free - evictable
        if scheduler.running or self.reservation.pending:
            outstanding_tokens = self.reservation.outstanding_tokens(self.batch.steps + self._settled)
            kept_tokens = outstanding_tokens + self.reservation.tokens
            room -= -(-kept_tokens // block_size) * self.settings.growing_groups
        if blocks > room:
            return None
        self._book_held()
        scheduler.allocate(sequence, hits, hits + blocks)
        sequence.computed = sequence.num_tokens - 1
        sequence.is_incoming = True
        self.reservation.reserve()
        self.reserved_tokens += sequence.state.request.prompt_tokens
        self.present_tokens += hits * block_size
        added = self._leap - 1
        if added > self._settled:
            free = self.pool.num_free // self._num_groups
            steps = self.batch.steps_within(free, self._settled, added - self._settled)
            self._cut_leap(1 + self._settled + steps)
        return hits * block_size

    def cancel(self, sequence: Sequence) -> int:
        """A reserved sequence will not decode here. Returns how many of its blocks cache nothing now."""
        self.settle_begun()
        self._book_held()
        blank = self.pool.num_blank
        sequence.is_incoming = False
        self.pool.release(sequence)
        self.reservation.pending -= 1
        if self.scheduler.waiting:
            self._nudge()
        return self.pool.num_blank - blank

    def receive(self, sequence: Sequence) -> None:
        """All KV of a reserved sequence has arrived, unless it has left or been preempted meanwhile."""
        if sequence.is_incoming:
            self.settle_begun()
            self._book_held()
            self.scheduler.receive(sequence, self._settled)
            if self.scheduler.waiting:
                self._nudge()

    def join(self, sequence: Sequence) -> None:
        """A reserved sequence may decode from now on."""
        kv_ready = self.scheduler.kv_ready
        if len(self.scheduler.running) + len(kv_ready) >= self.settings.max_num_seqs:
            self.seat_waits += 1
        kv_ready.append(sequence)
        self._tell_queued()
        if len(kv_ready) == 1:
            self._nudge()

    def _nudge(self) -> None:
        """Wake up, or end the leap at the first step boundary from now on: somebody may be admitted."""
        if self._idle:
            self._idle = False
            self._timer.set(self.clock.now)
        elif self._leap > 1 and len(self.scheduler.running) < self.settings.max_num_seqs:
            self._cut_leap(self._steps_begun())
