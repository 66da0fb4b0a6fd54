"""KV of prompts on its way to the instances that generate answers: sent as it is computed, until they decode."""

from __future__ import annotations

from collections import deque

from kvsim.sim.clock import AFTERMATH, Timer
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.conservation import KvBooks
from kvsim.sim.network.stream import FirstPart, Stream
from kvsim.sim.routing import DecodeLoads
from kvsim.sim.systems.kv_transfer import KvTransfer, tell_moved, transfer_of
from kvsim.sim.systems.returning import ReturningSystem


class SendingSystem(ReturningSystem):
    """The part of a separated system that moves prompts' KV. Whoever is built on it sets these."""

    kv_books: KvBooks
    decode_loads: DecodeLoads
    num_transfers: int
    transfer_s: float
    hidden_s: float
    lost_bytes: float
    """Sent of requests whose clients have gone."""
    _overlaps: bool
    _is_optimistic: bool
    _sends_all: bool
    _forwards_first_token: bool
    _request_latency_s: float
    _reservation_tokens: int
    num_open: int
    """Transfers of requests of which anything has left, or could, until their answers are complete."""
    _waiting: deque[KvTransfer]
    """Transfers without a decode instance, in the order in which room was asked for."""
    _retry_set: bool

    def _reserve(self, transfer: KvTransfer) -> bool:
        """Find room on a decode instance, with a free seat if there is one."""
        raise NotImplementedError

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
            transfer.awaits_prompt = False
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

    def _take_back(self, transfer: KvTransfer) -> None:
        """Give the place of a prompt that will not be whole, on the decode side or in the queue for one, to others."""
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
            transfer.prefill.state.transferred_bytes = transfer.bytes_before + moved_bytes
            self._tell_moved(transfer, target, moved_bytes, "cancelled")
        self._free_place(target, reserved)

    def _let_go(self, transfer: KvTransfer) -> None:
        """The client of a request whose prompt is whole has gone. What is on the links goes its way, as with vLLM's
        connectors, and only then both sides' blocks are free.
        """
        if transfer.target is None:
            self._waiting.remove(transfer)
            transfer.source.release(transfer.prefill)
            self._retry_soon()
        elif transfer.joined:
            engine, sequence = transfer.target
            engine.abort(sequence)
            self._free_place(engine, sequence)
        else:
            transfer.is_vain = True

    def _land_in_vain(self, transfer: KvTransfer) -> None:
        """All KV of a request whose client has gone is there, for nobody."""
        assert transfer.target is not None
        engine, sequence = transfer.target
        engine.cancel(sequence)
        transfer.source.release(transfer.prefill)
        self.pinning -= 1
        self._free_place(engine, sequence)
        if self.fleet is not None:
            self.fleet.left()
        self._stop_if_over()

    def _cut(self, transfer: KvTransfer) -> None:
        """One end of a transfer is gone, and its request nobody's any more: what is on the links goes no further."""
        stream = transfer.stream
        assert stream is not None and transfer.target is not None
        sent_bytes, moved_bytes = stream.sent_bytes, self.network.cancel(stream)
        self.lost_bytes -= sent_bytes - moved_bytes
        self._tell_moved(transfer, transfer.target[0], moved_bytes, "cancelled")
        self.pinning -= 1
        transfer.source.release(transfer.prefill)
        if not transfer.joined:
            engine, sequence = transfer.target
            engine.cancel(sequence)
            self._free_place(engine, sequence)

    def _first_landed(self, transfer: KvTransfer) -> None:
        """Optimistic: the first piece is there."""
        transfer.first_is_there = True
        if transfer.prefilled_s >= 0:
            self._start_decoding(transfer)

    def _landed(self, transfer: KvTransfer) -> None:
        """All KV is there: the prefill instance may forget it, the decode instance start."""
        stream = transfer.stream
        transfer.landed = True
        if stream is not None and stream.sent_bytes:
            self.num_transfers += 1
            self.transfer_s += stream.busy_s
            self.hidden_s += transfer.hidden_s
            if transfer.target is not None:
                self._tell_moved(transfer, transfer.target[0], stream.sent_bytes, "prompt")
        if transfer.is_vain:
            self._land_in_vain(transfer)
            return
        self._receive(transfer)
        transfer.source.release(transfer.prefill)
        self.pinning -= 1
        self._start_decoding(transfer)
        self._forget_way(transfer)
        if self.fleet is not None:
            self.fleet.left()
        if self._is_optimistic:
            self._stop_if_over()

    def _forget_way(self, transfer: KvTransfer) -> None:
        """Keep nothing of how a prompt came: most requests that are in the system decode."""
        assert transfer.target is not None
        transfer.stream = None
        transfer.prefill = transfer.target[1]
        if transfer.prefill.state in self.sequences:
            self.sequences[transfer.prefill.state] = transfer.prefill

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
        if transfer.joined or transfer.is_vain:
            return
        assert transfer.target is not None
        transfer.joined = True
        engine, sequence = transfer.target
        state, now = sequence.state, self.clock.now
        state.transfer_s += now - state.mark_s
        state.mark_s = now
        if self._forwards_first_token:
            state.first_token_s = now
            self.tokens(engine, sequence, 1)
            if not sequence.remaining:
                engine.cancel(sequence)
                self._left(engine, sequence)
                return
        engine.join(sequence)

    def _left(self, engine: Engine, sequence: Sequence) -> None:
        state = sequence.state
        del self.sequences[state]
        self._closed(state)
        self._free_place(engine, sequence)
        self.complete(state)

    def _closed(self, state: RequestState) -> KvTransfer | None:
        """The transfer of a request, if there is one, of which nothing will be asked any more."""
        transfer = transfer_of(state)
        if transfer is not None:
            state.transfer = None
            self.num_open -= 1
        return transfer

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
