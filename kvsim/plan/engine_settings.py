"""The settings of one engine, by vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvsim.pickling import by_fields


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """vLLM's engine arguments, for one role."""

    num_blocks: int
    """Blocks that hold KV: vLLM's ``num_gpu_blocks`` less the null block."""
    block_size: int
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    long_prefill_token_threshold: int
    watermark: float
    scheduler_reserve_full_isl: bool = True
    """Admission needs room for the whole sequence rather than for its first chunk."""
    scheduling_policy: str = "fcfs"
    """Order of the waiting queue, one of ``kvsim.policy.scheduling.ORDERS``."""
    prefix_cache: str = "paged"
    """``paged`` or ``radix``."""
    async_scheduling: bool = False
    """A step is scheduled while the one before it runs, without its outcome."""
    batching: str = "continuous"
    """``continuous``, or ``static``: nobody is admitted while somebody decodes."""
    output_margin_tokens: int = 0
    """Decode role: tokens of an answer that room is kept for when its KV is reserved (decode reservation)."""
    stepwise: bool = False
    """One event per step instead of leaps."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    @property
    def room_tokens(self) -> int:
        """KV tokens that the pool holds."""
        return self.num_blocks * self.block_size
