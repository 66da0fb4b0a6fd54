"""Prefill/decode separation: prompts are computed on one side, answers generated on the other, and KV moves between."""

from __future__ import annotations

from collections import deque

from kvsim.config.derived import nic_latency_s
from kvsim.fabric.nics import Nics
from kvsim.node.clock import AFTERMATH, Bell
from kvsim.node.engine import Engine
from kvsim.node.sequence import Journey, Sequence
from kvsim.policy.routing import LoadHeap, decode_router
from kvsim.record.steps import StepLog
from kvsim.system.plan import Plan
from kvsim.system.serving import Progress, ServingSystem
from kvsim.units import MICRO
from kvsim.workload.workload import Workload


class Handover:
    """One request's KV on its way from a prefill to a decode instance."""

    __slots__ = (
        "bytes_before",
        "end_s",
        "moved_s",
        "prefill",
        "prefilled_s",
        "sent_tokens",
        "source",
        "target",
    )

    def __init__(self, source: Engine, prefill: Sequence) -> None:
        self.source, self.prefill = source, prefill
        self.target: tuple[Engine, Sequence] | None = None
        """The decode instance, and the request as a sequence there."""
        self.sent_tokens = 0
        """Tokens of the prompt that are sent or present."""
        self.end_s = 0.0
        """When the last chunk sent so far has left the links."""
        self.moved_s = 0.0
        self.bytes_before = prefill.journey.transferred_bytes
        """Sent in vain by an earlier attempt that was preempted."""
        self.prefilled_s = -1.0
        """When the whole prompt was computed; -1 while it is not."""


class PdSystem(ServingSystem):
    """Prefill instances, decode instances, and the NICs between them.

    The decode instance is chosen, and the blocks reserved, when the first chunk of a prompt is computed; a request that
    finds no room waits, first come first served, with its prefill blocks pinned.
    """

    name = "pd"

    def __init__(self, plan: Plan, workload: Workload, seed: int, progress: Progress | None = None) -> None:
        super().__init__(plan, workload, seed, progress)
        separation = plan.config.pd_separation
        self.front_log, self.decode_log = StepLog(), StepLog()
        self._place(plan)
        self.loads = LoadHeap(plan.num_prefill)
        """Prompt tokens queued or under way: the backlog itself."""
        slack = float(plan.prefill_settings.max_num_batched_tokens)
        self.router = self._make_router(self.loads, self.loads.loads, slack)
        self.decode_loads = LoadHeap(plan.num_decode)
        self._decode_router = decode_router(
            plan.config.routing.decode,
            loads=self.decode_loads,
            racks=self._decode_by_rack,
            generator=self.generators[1],
        )
        transfer = separation.transfer
        self.nics = Nics(plan.num_instances, plan.nic_bytes_per_s, nic_latency_s(plan.config), transfer.contention)
        network = plan.config.cluster.network
        self._rack_latency_s = (network.cross_rack_latency_us * MICRO, network.intra_rack_latency_us * MICRO)
        self._request_latency_s = 0.0 if transfer.strategy == "push" else 2 * self.nics.latency_s
        """A pull asks first: a round trip more."""
        self._overlaps = transfer.pipelining and transfer.strategy != "pull_on_demand"
        self._forwards_first_token = separation.first_token == "prefill"
        self._returns_kv = separation.return_generated_kv and workload.info.generated_known
        self._margin_tokens = plan.decode_settings.output_margin_tokens
        self._handovers: dict[Journey, Handover] = {}
        self._waiting: deque[Handover] = deque()
        """Handovers without a decode instance."""
        self._retry_set = False
        self.bytes_in_air = 0.0
        self.transfers = self.reservation_waits = 0
        self.transfer_s = self.hidden_s = self.returned_bytes = 0.0

    def _place(self, plan: Plan) -> None:
        """Build the instances, roles interleaved over the racks."""
        num_racks = plan.rack_of(plan.num_instances - 1) + 1
        self.front: list[Engine] = []
        self.decode: list[Engine] = []
        self._rack_of_prefill: list[int] = []
        self._rack_of_decode: list[int] = []
        self._decode_by_rack: list[list[int]] = [[] for _ in range(num_racks)]
        for place, is_prefill in enumerate(plan.interleaved_roles()):
            rack = plan.rack_of(place)
            if is_prefill:
                self.front.append(self._front_engine(len(self.front), "prefill", plan.prefill_settings))
                self._rack_of_prefill.append(rack)
            else:
                self._decode_by_rack[rack].append(len(self.decode))
                engine = Engine(
                    self.clock, len(self.decode), "decode", plan.decode_settings, plan.step_time, self, self.decode_log
                )
                self.decode.append(engine)
                self._rack_of_decode.append(rack)

    def _engines(self) -> list[Engine]:
        return [*self.front, *self.decode]

    def _admit(self, journey: Journey) -> None:
        prompt_tokens = journey.request.prompt_tokens
        self.loads.add(journey.prefill_instance, prompt_tokens)
        self.front[journey.prefill_instance].submit(Sequence(journey, prompt_tokens, 0))

    # A prompt is computed, chunk after chunk, and sent as it is.

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """Port: a chunk is computed; its KV may leave."""
        if engine.role == "decode":
            return
        journey = sequence.journey
        if journey.path[0][0] >= 0:
            self.index.computed(engine.instance, journey.path, sequence.computed // self._block_size)
        complete = sequence.computed == sequence.num_tokens
        handover = self._handovers.get(journey)
        if handover is None:
            if not (complete or self._overlaps):
                return
            handover = self._open(engine, sequence, complete)
        if complete:
            handover.prefilled_s = self.clock.now
            self.loads.add(engine.instance, -journey.request.prompt_tokens)
        if handover.target is not None:
            self._send(handover)

    def _open(self, engine: Engine, sequence: Sequence, complete: bool) -> Handover:
        handover = Handover(engine, sequence)
        if not complete:
            self._handovers[sequence.journey] = handover
        if self._waiting or not self._reserve(handover):
            self._waiting.append(handover)
            self.reservation_waits += 1
        return handover

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """Port: a prompt that has to be computed again gives its place on the decode side back.

        Kept, it could wait for blocks that a finished prompt pins while that one waits for this place.
        """
        handover = self._handovers.pop(sequence.journey, None) if engine.role == "prefill" else None
        if handover is None:
            return
        if handover.target is None:
            self._waiting.remove(handover)
            return
        target, reserved = handover.target
        target.cancel(reserved)
        self._landed(sequence.journey.transferred_bytes - handover.bytes_before)
        self._free_place(target, reserved)

    def _reserve(self, handover: Handover) -> bool:
        """Find room on a decode instance."""
        journey = handover.prefill.journey
        forwarded = 1 if self._forwards_first_token else 0
        num_tokens = journey.request.prompt_tokens + forwarded
        sequence = Sequence(journey, num_tokens, journey.output_tokens - forwarded)
        for instance in self._decode_router.propose(self._rack_of_prefill[journey.prefill_instance]):
            engine = self.decode[instance]
            present_tokens = engine.reserve(sequence)
            if present_tokens is not None:
                handover.target = engine, sequence
                handover.sent_tokens = present_tokens
                journey.decode_instance = instance
                self.decode_loads.add(instance, num_tokens + self._margin_tokens)
                return True
        return False

    def _send(self, handover: Handover) -> None:
        """Send what is computed and not yet sent; after the last chunk the decode instance may start."""
        assert handover.target is not None
        engine, sequence = handover.target
        prefill, journey = handover.prefill, handover.prefill.journey
        now = self.clock.now
        complete = handover.prefilled_s >= 0
        ready_tokens = prefill.num_tokens if complete else prefill.computed
        if ready_tokens > handover.sent_tokens and (complete or self._overlaps):
            num_bytes = (ready_tokens - handover.sent_tokens) * self.plan.kv_bytes_per_token
            handover.sent_tokens = ready_tokens
            source = handover.source.instance
            start_s, handover.end_s = self.nics.send(
                source, len(self.front) + engine.instance, num_bytes, max(now, handover.end_s)
            )
            handover.moved_s += handover.end_s - start_s
            journey.transferred_bytes += num_bytes
            self.bytes_in_air += num_bytes
        if complete:
            self._close(handover, engine, sequence, now)

    def _close(self, handover: Handover, engine: Engine, sequence: Sequence, now: float) -> None:
        prefill, journey = handover.prefill, sequence.journey
        self._handovers.pop(journey, None)
        arrival_s = now
        num_bytes = journey.transferred_bytes - handover.bytes_before
        if num_bytes:
            same_rack = self._rack_of_prefill[journey.prefill_instance] == self._rack_of_decode[engine.instance]
            arrival_s = (
                max(handover.end_s, now)
                + self.nics.latency_s
                + self._rack_latency_s[same_rack]
                + self._request_latency_s
            )
            self.transfers += 1
            self.transfer_s += handover.moved_s
            self.hidden_s += handover.moved_s - min(handover.moved_s, max(0.0, handover.end_s - now))
        journey.decode_wait_s += now - journey.mark_s
        journey.transfer_s += arrival_s - now
        journey.mark_s = arrival_s
        self.clock.ring_at(
            arrival_s, callback=lambda _: self._arrived(handover.source, prefill, engine, sequence, num_bytes)
        )

    def _arrived(
        self, source: Engine, prefill: Sequence, engine: Engine, sequence: Sequence, num_bytes: float
    ) -> None:
        """All KV is there: the prefill instance may forget it, the decode instance start."""
        journey = sequence.journey
        self._landed(num_bytes)
        source.release(prefill)
        if self._forwards_first_token:
            journey.first_token_s = self.clock.now
            if not sequence.remaining:
                engine.cancel(sequence)
                self._left(engine, sequence)
                return
        engine.join(sequence)

    # An answer is complete.

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """Port: room on a decode instance, and known KV that the next turn could hit."""
        if self._returns_kv and sequence.journey.request.output_chain >= 0:
            self._return_kv(engine, sequence)
        self._left(engine, sequence)

    def _left(self, engine: Engine, sequence: Sequence) -> None:
        self._free_place(engine, sequence)
        self.complete(sequence.journey)

    def _free_place(self, engine: Engine, sequence: Sequence) -> None:
        forwarded = 1 if self._forwards_first_token else 0
        committed_tokens = sequence.journey.request.prompt_tokens + forwarded + self._margin_tokens
        self.decode_loads.add(engine.instance, -committed_tokens)
        if self._waiting and not self._retry_set:
            self._retry_set = True
            self.clock.ring_at(self.clock.now, AFTERMATH, self._retry)

    def _retry(self, _: Bell) -> None:
        """Room has become free: those that wait for it try again, in their order."""
        self._retry_set = False
        self.clock.aftermath_s = self.clock.now
        while self._waiting and self._reserve(self._waiting[0]):
            self._send(self._waiting.popleft())

    def _return_kv(self, engine: Engine, sequence: Sequence) -> None:
        """Send the full blocks that hold generated tokens back to the prefill instance."""
        journey = sequence.journey
        path = journey.path
        first = journey.request.prompt_tokens // self._block_size
        end = (journey.request.prompt_tokens + journey.output_tokens - 1) // self._block_size
        if end <= first:
            return
        num_bytes = (end - first) * self._block_size * self.plan.kv_bytes_per_token
        source = len(self.front) + engine.instance
        _, end_s = self.nics.send(source, journey.prefill_instance, num_bytes, self.clock.now)
        self.returned_bytes += num_bytes
        self.bytes_in_air += num_bytes
        self.clock.ring_at(
            end_s + self.nics.latency_s, callback=lambda _: self._returned(journey, path, first, end, num_bytes)
        )

    def _returned(
        self, journey: Journey, path: tuple[tuple[int, int, int], ...], first: int, end: int, num_bytes: float
    ) -> None:
        self._landed(num_bytes)
        prefill = self.front[journey.prefill_instance]
        if prefill.pool.insert(path, len(path) - 1, first, end):
            self.index.computed(prefill.instance, path, end)

    def _landed(self, num_bytes: float) -> None:
        self.nics.bytes_received += num_bytes
        self.bytes_in_air -= num_bytes
