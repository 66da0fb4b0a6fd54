"""Prefill/decode separation: prompts are computed on one side, answers generated on the other, and KV moves between."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from kvsim.config.derived import nic_latency_s
from kvsim.plan.plan import Place, Plan
from kvsim.record.result import Check, TransferUse
from kvsim.sim.clock import Timer
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.engine_kinds import engine_kind
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.lockstep import Lockstep
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.conservation import KvBooks, kv_checks, network_checks
from kvsim.sim.log.steps import StepLog
from kvsim.sim.network.build_network import build_network
from kvsim.sim.network.network import Network
from kvsim.sim.routing import DecodeLoads, Loads, adapter_router, decode_router
from kvsim.sim.systems.kv_bytes import KvBytes
from kvsim.sim.systems.kv_transfer import KvTransfer, begun_of, transfer_of
from kvsim.sim.systems.population import Progress
from kvsim.sim.systems.sending import SendingSystem
from kvsim.sim.systems.watcher import Watcher
from kvsim.steptime.curves.lockstep import times_of_engine
from kvsim.units import MICRO, MILLI
from kvsim.workload.workload import Workload


class PdSystem(SendingSystem):
    """Prefill instances, decode instances, and the NICs between them.

    The decode instance is chosen, and the blocks reserved, when the first chunk of a prompt is computed; a request that
    finds no room waits, first come first served, with its prefill blocks pinned. What is reserved can be hit by others
    once all of its KV has come, not before; then the request takes a seat.
    """

    name = "pd"
    last_role: Role = "decode"

    def __init__(
        self,
        plan: Plan,
        workload: Workload | None,
        seed: int,
        progress: Progress | None = None,
        *,
        watcher: Watcher | None = None,
        keeps_detail: bool = False,
    ) -> None:
        super().__init__(plan, workload, seed, progress, watcher=watcher, keeps_detail=keeps_detail)
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
        is_known = workload is None or workload.info.generated_known
        self._returns_kv = separation.return_generated_kv and is_known
        self._reservation_tokens = plan.decode_settings.output_margin_tokens
        self.num_open, self._waiting = 0, deque()
        self._retry_set = False
        router = self._make_router(self.loads, self.loads.loads, budget)
        slots = [engine.adapter_slots for engine in self.prefill_engines]
        self.router = adapter_router(router, plan.config.routing, self.loads, slots, budget)
        self.kv_books = KvBooks()
        self.num_transfers = self.reservation_waits = 0
        self.transfer_s = self.hidden_s = self.returned_bytes = self.lost_bytes = 0.0

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
                    tells_tokens=self.watcher is not None,
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
        return self._places[self.node_of(engine)]

    def node_of(self, engine: Engine) -> int:
        nodes = self._decode_nodes if engine.role == "decode" else self._prefill_nodes
        return nodes[engine.instance]

    def network_between(self) -> Network | None:
        return self.network

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
            checks += network_checks(self.network, by_request_bytes + self.returned_bytes + self.lost_bytes)
        return checks

    def _can_hold(self, prompt_tokens: int, output_tokens: int) -> bool:
        fits_prefill = self.plan.prefill_settings.fits(prompt_tokens)
        return fits_prefill and self.plan.decode_settings.fits(prompt_tokens + output_tokens)

    def _admit(self, state: RequestState) -> None:
        prompt_tokens = state.request.prompt_tokens
        self.sequences[state] = Sequence(state, prompt_tokens, 0)
        self.loads.add(state.prefill_instance, prompt_tokens)
        if self._proxy_s:
            self._hand_on(state)
        else:
            self._queue(state)

    def _hand_on(self, state: RequestState) -> None:
        """Let a request go through the proxy."""
        self.clock.schedule(self.clock.now + self._proxy_s, callback=lambda _: self._passed(state))

    def _passed(self, state: RequestState) -> None:
        """The proxy has handed a request on, unless its client has gone."""
        if state not in self.sequences:
            return
        state.proxy_s = self.clock.now - state.mark_s
        state.mark_s = self.clock.now
        self._queue(state)

    def _queue(self, state: RequestState) -> None:
        self._submit(self.prefill_engines[state.prefill_instance], self.sequences[state])

    def _withdraw(self, state: RequestState) -> None:
        sequence, transfer = self.sequences.pop(state), self._closed(state)
        instance = state.prefill_instance
        engine = self.prefill_engines[instance]
        if self.tiers is not None:
            self.tiers.aborted(engine, sequence)
        if transfer is not None and transfer.prefilled_s >= 0:
            self._let_go(transfer)
        else:
            engine.abort(sequence)
            self.loads.add(instance, -state.request.prompt_tokens)
            self.leaves_prefill(state)
            if transfer is not None:
                self._take_back(transfer)
        self.lost_bytes += state.transferred_bytes

    # Instances come and go.

    def loads_of(self, role: Role) -> Loads:
        return self.decode_loads if role == "decode" else self.loads

    def states_on(self, role: Role, numbers: set[int]) -> list[RequestState]:
        found = []
        for state in self.sequences:
            transfer = transfer_of(state)
            if role == "decode":
                is_there = transfer is not None and transfer.target is not None and state.decode_instance in numbers
            else:
                is_there = state.prefill_instance in numbers and not (transfer is not None and transfer.landed)
            if is_there:
                found.append(state)
        return found

    def cut_off(self, state: RequestState) -> None:
        transfer = transfer_of(state)
        super().cut_off(state)
        if transfer is not None and transfer.prefilled_s >= 0 and transfer.target is not None and not transfer.landed:
            self._cut(transfer)

    def count_stranded(self, state: RequestState, role: Role, amount: int) -> None:
        if role == "prefill":
            self.loads.add(state.prefill_instance, amount * state.request.prompt_tokens)
            return
        forwarded = 1 if self._forwards_first_token else 0
        tokens = state.request.prompt_tokens + forwarded + self._reservation_tokens
        if amount > 0:
            self.decode_loads.promise(state.decode_instance, tokens)
        else:
            self.decode_loads.give_back(state.decode_instance, tokens)

    def is_empty(self, role: Role, numbers: set[int]) -> bool:
        if role == "decode":
            return not any(self.decode_loads.requests(number) for number in numbers)
        if any(self.loads.load(number) for number in numbers):
            return False
        return all(self.prefill_engines[number].is_quiet for number in numbers)

    def came_back(self, role: Role) -> None:
        self._retry_soon()

    def used_share(self, role: Role, instance: int) -> float:
        if role == "decode":
            return self.decode_loads.requests(instance) / self.plan.decode_settings.max_num_seqs
        return self.loads.load(instance) / self.plan.prefill_settings.max_num_batched_tokens

    def held_share(self, role: Role, held: list[RequestState]) -> float:
        if role == "decode":
            return len(self._waiting) / self.plan.decode_settings.max_num_seqs
        tokens = sum([state.request.prompt_tokens for state in held])
        return tokens / self.plan.prefill_settings.max_num_batched_tokens

    def waits_for(self, role: Role) -> int:
        return len(self._waiting) if role == "decode" else 0

    # A prompt is computed, chunk after chunk, and sent as it is.

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """A chunk is computed; its KV may leave."""
        if engine.role == "decode":
            return
        state = sequence.state
        complete = sequence.ready == sequence.num_tokens
        if sequence.aborted:
            if complete:
                engine.release(sequence)
            return
        if state.path[0][0] >= 0:
            self.index.computed(engine.instance, state.path, sequence.ready // self._block_size)
        if self.tiers is not None and not complete:
            self.tiers.prefilled(engine, sequence)
        transfer = begun_of(state)
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
            self.leaves_prefill(state)
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
        self.clock.set(_LayerTimer(self, engine, sequence, ready_tokens), first_s)

    def layer_computed(self, engine: Engine, sequence: Sequence, ready_tokens: float) -> None:
        """All layers but the last of a chunk are computed, in so many tokens' worth of KV: it may leave."""
        if sequence.aborted:
            return
        transfer = begun_of(sequence.state)
        if transfer is None:
            transfer = self._open(engine, sequence, False)
        transfer.ready_tokens = ready_tokens
        if transfer.target is not None:
            self._send(transfer)

    def _open(self, engine: Engine, sequence: Sequence, complete: bool) -> KvTransfer:
        transfer = sequence.state.transfer = KvTransfer(engine, sequence)
        transfer.awaits_prompt = not complete
        self.num_open += 1
        if self._waiting or not self._reserve(transfer):
            self._waiting.append(transfer)
            self.reservation_waits += 1
        return transfer

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """A prompt that has to be computed again gives its place on the decode side back.

        Kept, it could wait for blocks that a finished prompt pins while that one waits for this place.
        """
        transfer = begun_of(sequence.state) if engine.role == "prefill" else None
        if transfer is not None:
            self._closed(sequence.state)
            self._take_back(transfer)

    def _reserve(self, transfer: KvTransfer) -> bool:
        """Find room on a decode instance, with a free seat if there is one."""
        state = transfer.prefill.state
        forwarded = 1 if self._forwards_first_token else 0
        num_tokens = state.request.prompt_tokens + forwarded
        sequence = Sequence(state, num_tokens, state.output_tokens - forwarded)
        proposed = self._decode_router.propose(self._rack_of_prefill[state.prefill_instance])
        for instance in self.decode_loads.seated_first(proposed):
            engine = self.decode_engines[instance]
            if self.fleet is not None and not self._may_go_to(instance):
                continue
            present_tokens = engine.reserve(sequence)
            if present_tokens is not None:
                transfer.target = engine, sequence
                transfer.present_blocks = present_tokens // self._block_size
                transfer.sent_tokens = 0.0 if self._sends_all else float(present_tokens)
                state.decode_instance = instance
                self.decode_loads.promise(instance, num_tokens + self._reservation_tokens)
                return True
        return False

    def _may_go_to(self, instance: int) -> bool:
        """Whether a decode instance takes new requests."""
        assert self.fleet is not None
        return not self.decode_loads.is_out(instance) and self.fleet.answers("decode", instance)

    # An answer is complete.

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """Room on a decode instance, and known KV that the next turn could hit; nothing where the client has gone."""
        if sequence.state not in self.sequences:
            return
        if self._returns_kv and sequence.state.request.output_chain >= 0:
            self._return_kv(engine, sequence)
        self._left(engine, sequence)

    def left(self, engine: Engine, sequence: Sequence) -> None:
        """Let transfers that wait for room on the decode side try again."""
        self._retry_soon()


class _LayerTimer(Timer):
    """When the first layers' KV of a chunk may leave."""

    __slots__ = ("_engine", "_ready_tokens", "_sequence", "_system")

    def __init__(self, system: PdSystem, engine: Engine, sequence: Sequence, ready_tokens: float) -> None:
        super().__init__()
        self._system, self._engine, self._sequence, self._ready_tokens = system, engine, sequence, ready_tokens

    def fire(self) -> None:
        self._system.layer_computed(self._engine, self._sequence, self._ready_tokens)
