"""The tiers behind engines that offload by vLLM's rules: asked and told by each engine's own connector."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.policy.prefetch import Prefetch
from kvsim.sim.clock import Clock
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import LookUp
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.engine.sequence import Sequence as Queued
from kvsim.sim.log.detail import Rows
from kvsim.sim.tiers.chunks import chunk_runs, sliced
from kvsim.sim.tiers.hierarchy import TierHierarchy
from kvsim.sim.tiers.lookup import Tiers
from kvsim.sim.tiers.offload_requests import OffloadRequests
from kvsim.sim.tiers.offloading import Offloading
from kvsim.sim.tiers.tier_lookup import TierLookup


class OffloadingTiers(Tiers):
    """``Tiers`` for ``cache.connector: offloading``."""

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
        super().__init__(clock, hierarchy, block_size, prefetch, cached, waits_for_backup=waits_for_backup, tells=tells)
        connectors, rules = hierarchy.connectors, hierarchy.rules
        self._requests = [OffloadRequests(clock, self, instance) for instance in range(len(connectors))]
        self._offloading = [
            Offloading(clock, connector, requests, rules.chunk_tokens, block_size, rules.writes_generated)
            for connector, requests in zip(connectors, self._requests, strict=True)
        ]
        for connector in connectors:
            connector.on_written = self._written

    def asked_by_scheduler(self) -> LookUp | None:
        return None

    def connector_of(self, instance: int) -> Offloading:
        return self._offloading[instance]

    def _written(self) -> None:
        """Chunks have come to memory: who waits for them may go on."""
        for requests in self._requests:
            if requests.engine is not None:
                requests.engine.wake()

    def arrive(self, engine: Engine, sequence: Queued) -> None:
        self._requests[engine.instance].begin(engine, sequence)
        super().arrive(engine, sequence)

    def prefilled(self, engine: Engine, sequence: Queued) -> None:
        """The connector knows it already."""

    def computed(self, engine: Engine, sequence: Queued, tokens: int) -> None:
        """The request ends on this engine; its first ``tokens`` have KV there."""
        lookup = self._lookups.get(sequence.state)
        if lookup is None:
            return
        count = tokens // self._chunk_tokens
        if not self.hierarchy.rules.writes_generated and count > lookup.prompt_chunks:
            runs = chunk_runs(sequence.path, count * self._chunk_blocks, self._chunk_blocks)
            self.hierarchy.connectors[engine.instance].refuse(sliced(runs, lookup.prompt_chunks, count))
        self._offloading[engine.instance].end(sequence, lookup, tokens)

    def came(self, instance: int, path: Path, blocks: int, lookup: TierLookup) -> None:
        super().came(instance, path, blocks, lookup)
        self.hierarchy.connectors[instance].ended(lookup.access)

    def served(self, state: RequestState) -> tuple[int, int]:
        lookup = self._lookups.get(state)
        if lookup is not None and not lookup.has_ended:
            self.hierarchy.connectors[state.prefill_instance].ended(lookup.access)
        if lookup is not None:
            self.hierarchy.traffic.lost_tokens += lookup.spare_tokens
        return super().served(state)

    def aborted(self, engine: Engine, sequence: Queued) -> None:
        lookup = self._lookups.get(sequence.state)
        if lookup is not None:
            self.hierarchy.traffic.lost_tokens += lookup.spare_tokens
            if not lookup.has_ended:
                self._offloading[engine.instance].end(sequence, lookup, sequence.computed)
        super().aborted(engine, sequence)

    def _loaded_hits(self, state: RequestState, lookup: TierLookup) -> int:
        return min(state.hit_tokens, lookup.arrived_tokens)
