"""KV of layers of several kinds: how vLLM's hybrid cache manager shares its blocks out, and what it prints of that.

Source: vLLM 0.32, ``kv_cache_utils.py``, ``_get_kv_cache_groups_uniform_page_size`` and
``get_max_concurrency_for_kv_cache_config``; ``max_admission_blocks_per_request`` of ``SlidingWindowSpec`` and
``ChunkedLocalAttentionSpec``.
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
    window_tokens: int
    is_chunk: bool = False

    def blocks_per_request(self, tokens: int, block_size: int, own: MemoryArguments) -> int:
        """Blocks that a request of ``tokens`` may take at once."""
        whole = -(-tokens // block_size)
        in_flight = own.max_num_batched_tokens * (2 if own.async_scheduling else 1)
        kept = kept_blocks(self.window_tokens, self.is_chunk, in_flight, tokens, block_size)
        return self.full * whole + self.windowed * kept


def kept_blocks(window_tokens: int, is_chunk: bool, in_flight_tokens: int, longest_tokens: int, block_size: int) -> int:
    """Blocks that a sequence of up to ``longest_tokens`` may hold at once of layers with a window, or with chunks.

    What is scheduled and not computed may be beside the window, and a window may begin within a block: one more.
    """
    if is_chunk:
        return -(-min(window_tokens + in_flight_tokens, longest_tokens) // block_size)
    return -(-min(window_tokens - 1 + in_flight_tokens, longest_tokens) // block_size) + 1


def kv_groups(model: ModelSpec) -> KvGroups | None:
    """The groups of a model some of whose layers have a window; ``None`` where none have."""
    window_tokens = model.sliding_window_tokens
    windowed = model.num_window_layers if window_tokens else 0
    if not windowed or window_tokens is None:
        return None
    full = model.attention_layers - windowed
    if not full:
        return KvGroups(windowed, 0, 1, window_tokens, model.window_is_chunk)
    fewer, more = sorted((windowed, full))
    layers = more if more < PADDED_UP_TO * fewer else fewer
    return KvGroups(layers, -(-full // layers), -(-windowed // layers), window_tokens, model.window_is_chunk)
