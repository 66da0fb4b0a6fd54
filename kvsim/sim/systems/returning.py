"""KV of answers on its way back to the instance that computed the prompt, where a session's next turn may hit it."""

from __future__ import annotations

import math
from functools import partial

from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.network.network import Network
from kvsim.sim.network.stream import Stream
from kvsim.sim.systems.kv_bytes import KvBytes
from kvsim.sim.systems.kv_transfer import tell_moved
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.tiers.tier_lookup import TierLookup


class ReturningSystem(ServingSystem):
    """The part of a separated system that sends generated KV back. Whoever is built on it sets these."""

    network: Network
    returned_bytes: float
    _kv_bytes: KvBytes
    _prefill_nodes: list[int]
    _decode_nodes: list[int]
    _piece_tokens: int
    _num_layers: int
    _layerwise: bool

    def _descriptors(self, tokens: float) -> int:
        pieces = math.ceil(tokens / self._piece_tokens)
        return pieces * self._num_layers if self._layerwise else pieces

    def _return_kv(self, engine: Engine, sequence: Sequence) -> None:
        """Send the full blocks that hold generated tokens back to the prefill instance."""
        state = sequence.state
        first = state.request.prompt_tokens // self._block_size
        end = (state.request.prompt_tokens + state.output_tokens - 1) // self._block_size
        if end <= first:
            return
        returned_tokens, known_tokens = (end - first) * self._block_size, end * self._block_size
        num_bytes = self._kv_bytes.of(returned_tokens, first * self._block_size, known_tokens)
        lookup = None if self.tiers is None else self.tiers.lookup(state)
        stream = self.network.open(
            self._decode_nodes[engine.instance],
            self._prefill_nodes[state.prefill_instance],
            partial(self._kv_returned, engine.instance, state, (first, end), lookup, self.clock.now, num_bytes),
        )
        self.returned_bytes += num_bytes
        self.network.push(stream, num_bytes, True, self._descriptors((end - first) * self._block_size))

    def _kv_returned(
        self, source: int, state: RequestState, blocks: tuple[int, int], lookup: TierLookup | None, sent_s: float,
        num_bytes: float, _: Stream,
    ) -> None:  # fmt: skip
        self._returned(state.prefill_instance, state.path, *blocks, lookup)
        source += len(self.prefill_engines)
        request_id, target = state.request.request_id, state.prefill_instance
        tell_moved(self.detail, request_id, sent_s, self.clock.now, num_bytes, source, target, "returned")

    def _returned(self, instance: int, path: Path, first: int, end: int, lookup: TierLookup | None) -> None:
        """Cache KV that has returned, where there is room and the prompt is still there; from there tiers have it."""
        pool = self.prefill_engines[instance].pool
        if pool.insert(path, len(path) - 1, first, end):
            self.index.computed(instance, path, end)
        if self.tiers is not None and lookup is not None and pool.match(path, end)[0] == end:
            self.tiers.came(instance, path, end, lookup)
