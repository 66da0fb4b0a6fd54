"""KV of layers of several kinds: how vLLM's hybrid cache manager shares its blocks out, and what it prints of that.

Source: vLLM 0.32, ``kv_cache_utils.py``, ``_get_kv_cache_groups_uniform_page_size`` and
``get_max_concurrency_for_kv_cache_config``; ``SlidingWindowSpec.max_admission_blocks_per_request``.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.memory import MemoryArguments
from kvsim.spec.model import ModelSpec

PADDED_UP_TO = 1.5
"""Kinds of layers that differ by less have groups as large as the larger kind, padded; else as the smaller."""


@dataclass(frozen=True, slots=True)
class KvGroups:
    """Groups of equally many layers, each with a block table of its own over one pool of blocks."""

    layers: int
    """Layers of each group: so many deep is a block."""
    full: int
    """Groups of layers that look at the whole sequence."""
    windowed: int

    def blocks_per_request(self, tokens: int, block_size: int, window_tokens: int, own: MemoryArguments) -> int:
        """Blocks that a request of ``tokens`` may take at once.

        A window keeps what may be in flight beside itself, and may begin within a block: one more.
        """
        whole = -(-tokens // block_size)
        in_flight = own.max_num_batched_tokens * (2 if own.async_scheduling else 1)
        kept = -(-min(window_tokens - 1 + in_flight, tokens) // block_size) + 1
        return self.full * whole + self.windowed * kept


def kv_groups(model: ModelSpec) -> KvGroups | None:
    """The groups of a model with layers of both kinds; ``None`` where all layers are of one kind."""
    windowed = model.num_window_layers if model.sliding_window_tokens else 0
    full = model.num_layers - windowed
    if not windowed or not full:
        return None
    fewer, more = sorted((windowed, full))
    layers = more if more < PADDED_UP_TO * fewer else fewer
    return KvGroups(layers, -(-full // layers), -(-windowed // layers))
