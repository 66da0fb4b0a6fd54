"""Prefill/decode separation, routing, the load it is driven at and what counts as good."""

from __future__ import annotations

from typing import Literal

from kvsim.config.schema_instance import TierNames
from kvsim.config.section import Count, Name, NonNegative, Positive, PositiveShare, Ratio, Section, Whole


class Compute(Section):
    """``pd_separation.compute``: achieved figures of one GPU; ``null`` leaves what the rest of the config gives."""

    prefill_tflops: Positive | None
    decode_memory_gb_per_s: Positive | None
    model_params_b: Positive | None
    kv_bytes_per_token: Count | None
    tokens_per_block: Count | None
    overhead_factor: Positive
    prefill_batch_efficiency: PositiveShare | None
    decode_kv_overhead_factor: NonNegative | None


class Transfer(Section):
    """``pd_separation.transfer``: how KV moves from a prefill to a decode instance."""

    strategy: Literal["push", "pull", "pull_on_demand"]
    rdma_gb_per_s: Positive | None
    rdma_efficiency: PositiveShare
    rdma_latency_us: NonNegative | None
    contention: Literal["max_min", "fifo", "none"]
    pipelining: bool
    layerwise: bool
    decode_start: Literal["last_chunk", "first_chunk"]
    pipeline_chunk_blocks: Count
    descriptor_us: NonNegative
    delta: bool
    compression_ratio: Positive


class PdSeparation(Section):
    """``pd_separation``: the two sides and what passes between them."""

    enabled: bool
    pd_ratio: Ratio
    prefill_tensor_parallel_size: Count | None
    decode_tensor_parallel_size: Count | None
    first_token: Literal["decode", "prefill"]
    chunked_prefill: bool
    chunk_size_tokens: Count | None
    max_output_tokens: Count | None
    output_margin_tokens: Whole
    return_generated_kv: bool
    tiers: TierNames
    compute: Compute
    transfer: Transfer


class Routing(Section):
    """``routing``: policy names are checked against the registry where the system is built."""

    prefill: Name
    decode: Name
    load_guard: NonNegative
    candidates: Count
    index_staleness_ms: NonNegative
    sees_tiers: bool


class Slo(Section):
    """``slo``: a request is good when it meets both."""

    ttft_ms: Positive
    tpot_ms: Positive


class Load(Section):
    """``load``: the share of a system's maximum rate that arrivals are brought to."""

    rho: Positive
    of: Literal["pd", "unified"]
    warm_caches: bool
    pilot_requests: Count
    unsteady_factor: NonNegative
