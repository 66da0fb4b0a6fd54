"""Prefill/decode separation: prompts are computed on one side, answers generated on the other, and KV moves between."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from kvsim.config.derived import nic_latency_s
from kvsim.plan.plan import Place, Plan
from kvsim.record.result import Check, TransferUse
from kvsim.sim.clock import AFTERMATH, Timer
from kvsim.sim.engine.engine import Engine, Role
from kvsim.sim.engine.engine_kinds import engine_kind
from kvsim.sim.engine.lockstep import Lockstep
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.conservation import KvBooks, kv_checks, network_checks
from kvsim.sim.log.steps import StepLog
from kvsim.sim.network.build_network import build_network
from kvsim.sim.network.stream import FirstPart, Stream
from kvsim.sim.routing import DecodeLoads, Loads, decode_router
from kvsim.sim.systems.kv_bytes import KvBytes
from kvsim.sim.systems.kv_transfer import KvTransfer, tell_moved
from kvsim.sim.systems.returning import ReturningSystem
from kvsim.sim.systems.serving import Progress
from kvsim.steptime.curves.lockstep import times_of_engine
from kvsim.units import MICRO, MILLI
from kvsim.workload.workload import Workload


class PdSystem(ReturningSystem):
    """Prefill instances, decode instances, and the NICs between them.

    The decode instance is chosen, and the blocks reserved, when the first chunk of a prompt is computed; a request that
    finds no room waits, first come first served, with its prefill blocks pinned. What is reserved can be hit by others
    once all of its KV has come, not before; then the request takes a seat.
    """

    name = "pd"

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        seed: int,
        progress: Progress | None = None,
        *,
        keeps_detail: bool = False,
    ) -> None:
        super().__init__(plan, workload, seed, progress, keeps_detail=keeps_detail)
        separation = plan.config.pd_separation
        transfer = separation.transfer
        self._overlaps = transfer.pipelining and transfer.strategy != "pull_on_demand"
        self._num_layers = plan.spec.model.num_layers
        self._layerwise = self._overlaps and transfer.layerwise and self._num_layers > 1
        self.decode_log = StepLog()
        self._forwards_first_token = separation.first_token == "prefill"
        self._build_tiers(plan.prefill, [place for place in plan.places() if place.is_prefill])
        self._build_engines(plan)
        self.loads = Loads(plan.num_prefill)
        """Prompt tokens queued or under way: the backlog itself."""
        decode, budget = plan.decode_settings, float(plan.prefill_settings.max_num_batched_tokens)
        self.decode_loads = DecodeLoads(plan.num_decode, decode.room_tokens, decode.max_num_seqs)
        self._decode_router = decode_router(
            plan.config.routing.decode,
            loads=self.decode_loads,
            racks=self._decode_by_rack,
            generator=self.generators[1],
        )
        self.network = build_network(plan, self.clock, self.generators[2])
        self._proxy_s = separation.proxy_ms * MILLI
        asks_s = 0.0 if transfer.strategy == "push" else 2 * nic_latency_s(plan.config)
        self._request_latency_s = asks_s + transfer.setup_us * MICRO
        """A pull asks first: a round trip more."""
        self._is_optimistic = transfer.decode_start == "first_chunk"
        self._sends_all = not transfer.delta
        share = plan.decode.spec.model.window_share
        self._kv_bytes = KvBytes(plan.kv_bytes_per_token, plan.decode_settings, share)
        self._piece_tokens = transfer.pipeline_chunk_blocks * self._block_size
        """Tokens that one descriptor moves, of all layers, or of one where they leave one by one."""
        self._returns_kv = separation.return_generated_kv and workload.info.generated_known
        self._reservation_tokens = plan.decode_settings.output_margin_tokens
        self._begun: dict[RequestState, KvTransfer] = {}
        """Transfers of prompts that are not whole yet."""
        self._waiting: deque[KvTransfer] = deque()
        """Transfers without a decode instance, in the order in which room was asked for."""
        self._retry_set = False
        self.router = self._make_router(self.loads, self.loads.loads, budget)
        self.kv_books = KvBooks()
        self.num_transfers = self.reservation_waits = 0
        self.transfer_s = self.hidden_s = self.returned_bytes = 0.0

    def _build_engines(self, plan: Plan) -> None:
        """One at each place, roles interleaved over the racks."""
        places = self._places = plan.places()
        num_racks = max(place.rack for place in places) + 1
        self.prefill_engines: list[Engine] = []
        self.decode_engines: list[Engine] = []
        self._rack_of_prefill: list[int] = []
        self._prefill_nodes: list[int] = []
        """By number of a prefill instance: what the network knows it by, its place."""
        self._decode_nodes: list[int] = []
        prefill, decode = plan.prefill.step_time, plan.decode.step_time
        self._decode_by_rack: list[list[int]] = [[] for _ in range(num_racks)]
        groups: list[Lockstep] = []
        for place, stands in enumerate(places):
            rack = stands.rack
            if stands.is_prefill:
                number, settings, layerwise = len(self.prefill_engines), plan.prefill_settings, self._layerwise
                announced = {"announces_chunks": layerwise, "forwards": self._forwards_first_token}
                engine = self._prefill_engine(number, "prefill", settings, prefill, **announced)
                self.prefill_engines.append(engine)
                self._rack_of_prefill.append(rack)
                self._prefill_nodes.append(place)
            else:
                self._decode_by_rack[rack].append(len(self.decode_engines))
                number, settings = len(self.decode_engines), plan.decode_settings
                detail = None if self.detail is None else self.detail.engine(plan.num_prefill + number)
                group = self._group_of(groups, number, "decode", decode)
                engine = engine_kind(settings)(
                    self.clock,
                    number,
                    "decode",
                    settings if group is None else replace(settings, stepwise=True),
                    times_of_engine(decode),
                    self,
                    self.decode_log,
                    detail=detail,
                    timer=None if group is None else group.timer,
                )
                if group is not None:
                    group.engines.append(engine)
                self.decode_engines.append(engine)
                self._decode_nodes.append(place)

    def engines_by_role(self) -> dict[Role, list[Engine]]:
        return {"prefill": self.prefill_engines, "decode": self.decode_engines}

    def logs_by_role(self) -> dict[Role, StepLog]:
        return {"prefill": self.prefill_log, "decode": self.decode_log}

    def place_of(self, engine: Engine) -> Place:
        nodes = self._decode_nodes if engine.role == "decode" else self._prefill_nodes
        return self._places[nodes[engine.instance]]

    def transfer_use(self, end_s: float) -> TransferUse:
        network, transfers, returned_bytes = self.network, self.num_transfers, self.returned_bytes
        outs, ins = network.topology.links("nic_out"), network.topology.links("nic_in")
        out_capacity_bytes = len(self.prefill_engines) * self.plan.prefill.nic_bytes_per_s * end_s
        in_capacity_bytes = len(self.decode_engines) * self.plan.decode.nic_bytes_per_s * end_s
        out_bytes = sum(network.carried[outs[node]] for node in self._prefill_nodes)
        in_bytes = sum(network.carried[ins[node]] for node in self._decode_nodes)
        return TransferUse(
            transfers=transfers,
            bytes_sent=network.bytes_sent - returned_bytes,
            bytes_received=network.bytes_received - returned_bytes,
            hidden_share=self.hidden_s / self.transfer_s if self.transfer_s > 0 else math.nan,
            mean_s=self.transfer_s / transfers if transfers else math.nan,
            nic_out_utilisation=out_bytes / out_capacity_bytes if out_capacity_bytes > 0 else math.nan,
            nic_in_utilisation=in_bytes / in_capacity_bytes if in_capacity_bytes > 0 else math.nan,
            reservation_waits=self.reservation_waits + sum(engine.seat_waits for engine in self.decode_engines),
            returned_bytes=returned_bytes,
        )

    def byte_checks(self) -> list[Check]:
        checks = kv_checks(self.kv_books)
        if not self.counts.in_flight:
            by_request_bytes = float(self.requests.table()["transferred_bytes"].sum())
            checks += network_checks(self.network, by_request_bytes + self.returned_bytes)
        return checks

    def _can_hold(self, prompt_tokens: int, output_tokens: int) -> bool:
        fits_prefill = self.plan.prefill_settings.fits(prompt_tokens)
        return fits_prefill and self.plan.decode_settings.fits(prompt_tokens + output_tokens)

    def _admit(self, state: RequestState) -> None:
        prompt_tokens = state.request.prompt_tokens
        self.loads.add(state.prefill_instance, prompt_tokens)
        if self._proxy_s:
            self.clock.schedule(self.clock.now + self._proxy_s, callback=lambda _: self._passed(state))
        else:
            self._queue(state)

    def _passed(self, state: RequestState) -> None:
        """The proxy has handed a request on."""
        state.proxy_s = self.clock.now - state.mark_s
        state.mark_s = self.clock.now
        self._queue(state)

    def _queue(self, state: RequestState) -> None:
        sequence = Sequence(state, state.request.prompt_tokens, 0)
        self._submit(self.prefill_engines[state.prefill_instance], sequence)

    # A prompt is computed, chunk after chunk, and sent as it is.

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """A chunk is computed; its KV may leave."""
        if engine.role == "decode":
            return
        state = sequence.state
        if state.path[0][0] >= 0:
            self.index.computed(engine.instance, state.path, sequence.ready // self._block_size)
        complete = sequence.ready == sequence.num_tokens
        if self.tiers is not None and not complete:
            self.tiers.prefilled(engine, sequence)
        transfer = self._begun.get(state)
        if transfer is None:
            if not (complete or self._overlaps):
                return
            transfer = self._open(engine, sequence, complete)
        transfer.ready_tokens = float(sequence.ready)
        if complete:
            transfer.prefilled_s = self.clock.now
            if self.tiers is not None:
                self.tiers.computed(engine, sequence, sequence.ready)
            self.loads.add(engine.instance, -state.request.prompt_tokens)
            self._leaves_prefill(state)
        if transfer.target is not None:
            self._send(transfer)

    def computing(self, engine: Engine, sequence: Sequence, first: int, end: int, end_s: float) -> None:
        """A step that will compute a chunk has begun; its KV may leave layer by layer.

        All layers but the last may leave from the end of the first on, the last one at the end of the step. At a
        constant rate that is when the last layer leaves if each leaves as it is computed.
        """
        if engine.role == "decode":
            return
        ready_tokens = first + (end - first) * (1 - 1 / self._num_layers)
        first_s = self.clock.now + (end_s - self.clock.now) / self._num_layers
        self.clock.schedule(first_s, callback=lambda _: self._layer_computed(engine, sequence, ready_tokens))

    def _layer_computed(self, engine: Engine, sequence: Sequence, ready_tokens: float) -> None:
        transfer = self._begun.get(sequence.state)
        if transfer is None:
            transfer = self._open(engine, sequence, False)
        transfer.ready_tokens = ready_tokens
        if transfer.target is not None:
            self._send(transfer)

    def _open(self, engine: Engine, sequence: Sequence, complete: bool) -> KvTransfer:
        transfer = KvTransfer(engine, sequence)
        if not complete:
            self._begun[sequence.state] = transfer
        if self._waiting or not self._reserve(transfer):
            self._waiting.append(transfer)
            self.reservation_waits += 1
        return transfer

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """A prompt that has to be computed again gives its place on the decode side back.

        Kept, it could wait for blocks that a finished prompt pins while that one waits for this place.
        """
        transfer = self._begun.pop(sequence.state, None) if engine.role == "prefill" else None
        if transfer is None:
            return
        if transfer.target is None:
            self._waiting.remove(transfer)
            self._retry_soon()
            return
        target, reserved = transfer.target
        taken = -(-reserved.num_tokens // self._block_size) - transfer.present_blocks
        if target.settings.kv_groups:
            taken = target.pool.uncached(reserved)
        self.kv_books.left_blocks += taken - target.cancel(reserved)
        if transfer.stream is not None:
            moved_bytes = self.network.cancel(transfer.stream)
            sequence.state.transferred_bytes = transfer.bytes_before + moved_bytes
            self._tell_moved(transfer, target, moved_bytes, "cancelled")
        self._free_place(target, reserved)

    def _reserve(self, transfer: KvTransfer) -> bool:
        """Find room on a decode instance, with a free seat if there is one."""
        state = transfer.prefill.state
        forwarded = 1 if self._forwards_first_token else 0
        num_tokens = state.request.prompt_tokens + forwarded
        sequence = Sequence(state, num_tokens, state.output_tokens - forwarded)
        proposed = self._decode_router.propose(self._rack_of_prefill[state.prefill_instance])
        for instance in self.decode_loads.seated_first(proposed):
            engine = self.decode_engines[instance]
            present_tokens = engine.reserve(sequence)
            if present_tokens is not None:
                transfer.target = engine, sequence
                transfer.present_blocks = present_tokens // self._block_size
                transfer.sent_tokens = 0.0 if self._sends_all else float(present_tokens)
                state.decode_instance = instance
                self.decode_loads.promise(instance, num_tokens + self._reservation_tokens)
                return True
        return False

    def _send(self, transfer: KvTransfer) -> None:
        """Send what is computed and not yet sent; after the last chunk nothing more will follow."""
        complete = transfer.prefilled_s >= 0
        if not (complete or self._overlaps):
            return
        state, stream = transfer.prefill.state, transfer.stream
        if stream is None:
            stream = transfer.stream = self._open_stream(transfer)
            transfer.sent_s = self.clock.now
        if complete:
            self._begun.pop(state, None)
            self.pinning += 1
            now = self.clock.now
            state.decode_wait_s += now - state.mark_s
            state.mark_s = now
            transfer.hidden_s = self.network.busy_so_far_s(stream)
        tokens = max(transfer.ready_tokens - transfer.sent_tokens, 0.0)
        num_bytes = self._kv_bytes.of(tokens, transfer.sent_tokens, state.request.prompt_tokens)
        transfer.sent_tokens += tokens
        state.transferred_bytes += num_bytes
        self.network.push(stream, num_bytes, complete, self._descriptors(tokens))
        if complete and transfer.first_is_there:
            self._start_decoding(transfer)

    def _open_stream(self, transfer: KvTransfer) -> Stream:
        assert transfer.target is not None
        first = None
        if self._is_optimistic:
            left = transfer.prefill.num_tokens - transfer.sent_tokens
            tokens = min(float(self._piece_tokens), left)
            first = FirstPart(
                self._kv_bytes.of(tokens, transfer.sent_tokens, transfer.prefill.num_tokens),
                self._descriptors(tokens),
                lambda _: self._first_landed(transfer),
            )
        return self.network.open(
            self._prefill_nodes[transfer.source.instance],
            self._decode_nodes[transfer.target[0].instance],
            lambda _: self._landed(transfer),
            self._request_latency_s,
            first,
        )

    def _first_landed(self, transfer: KvTransfer) -> None:
        """Optimistic: the first piece is there."""
        transfer.first_is_there = True
        if transfer.prefilled_s >= 0:
            self._start_decoding(transfer)

    def _landed(self, transfer: KvTransfer) -> None:
        """All KV is there: the prefill instance may forget it, the decode instance start."""
        stream = transfer.stream
        if stream is not None and stream.sent_bytes:
            self.num_transfers += 1
            self.transfer_s += stream.busy_s
            self.hidden_s += transfer.hidden_s
            if transfer.target is not None:
                self._tell_moved(transfer, transfer.target[0], stream.sent_bytes, "prompt")
        self._receive(transfer)
        transfer.source.release(transfer.prefill)
        self.pinning -= 1
        self._start_decoding(transfer)
        if self._is_optimistic:
            self._stop_if_over()

    def _receive(self, transfer: KvTransfer) -> None:
        """The decode instance has all KV of a prompt: others may hit it there, unless it is gone already."""
        assert transfer.target is not None
        engine, sequence = transfer.target
        present_blocks = sequence.hashed if sequence.is_incoming else transfer.present_blocks
        needed_tokens = transfer.prefill.num_tokens
        found_bytes = 0.0 if transfer.stream is None else transfer.stream.sent_bytes
        if not self._sends_all:
            found_bytes += self._kv_bytes.of(present_blocks * self._block_size, 0.0, needed_tokens)
        self.kv_books.land(self._kv_bytes.of(needed_tokens, 0.0, needed_tokens), found_bytes)
        engine.receive(sequence)

    def _start_decoding(self, transfer: KvTransfer) -> None:
        if transfer.joined:
            return
        assert transfer.target is not None
        transfer.joined = True
        engine, sequence = transfer.target
        state, now = sequence.state, self.clock.now
        state.transfer_s += now - state.mark_s
        state.mark_s = now
        if self._forwards_first_token:
            state.first_token_s = now
            if not sequence.remaining:
                engine.cancel(sequence)
                self._left(engine, sequence)
                return
        engine.join(sequence)

    # An answer is complete.

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """Room on a decode instance, and known KV that the next turn could hit."""
        if self._returns_kv and sequence.state.request.output_chain >= 0:
            self._return_kv(engine, sequence)
        self._left(engine, sequence)

    def _left(self, engine: Engine, sequence: Sequence) -> None:
        self._free_place(engine, sequence)
        self.complete(sequence.state)

    def _free_place(self, engine: Engine, sequence: Sequence) -> None:
        forwarded = 1 if self._forwards_first_token else 0
        committed_tokens = sequence.state.request.prompt_tokens + forwarded + self._reservation_tokens
        self.decode_loads.give_back(engine.instance, committed_tokens)
        self._retry_soon()

    def _retry_soon(self) -> None:
        if self._waiting and not self._retry_set:
            self._retry_set = True
            self.clock.schedule(self.clock.now, AFTERMATH, self._retry)

    def _retry(self, _: Timer) -> None:
        """Room has become free: those that wait for it try again, in their order."""
        self._retry_set = False
        self.clock.aftermath_s = self.clock.now
        while self._waiting and self._reserve(self._waiting[0]):
            transfer = self._waiting.popleft()
            self._send(transfer)

    def _tell_moved(self, transfer: KvTransfer, target: Engine, num_bytes: float, kind: str) -> None:
        request_id, place = transfer.prefill.state.request.request_id, len(self.prefill_engines) + target.instance
        source, now = transfer.source.instance, self.clock.now
        tell_moved(self.detail, request_id, transfer.sent_s, now, num_bytes, source, place, kind)
