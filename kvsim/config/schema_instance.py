"""The model, the engine that serves it, one GPU with its host's memory, and the single node's cache."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from kvsim.config.section import Count, Counts, Name, NonNegative, Positive, PositiveShare, Section, Whole


class Model(Section):
    """``model``: which one, and numbers that replace those of the known model."""

    name: Name
    weight_dtype: Literal["bf16", "fp16", "fp8", "int8", "int4"]
    kv_dtype: Literal["bf16", "fp16", "fp8", "int8"]
    max_model_len: Count
    params_billions: Positive | None
    kv_bytes_per_token: Count | None


class Engine(Section):
    """``engine``: the arguments of one instance, named as vLLM names them."""

    tensor_parallel_size: Count
    data_parallel_size: Count
    enable_expert_parallel: bool
    block_size: Count
    max_num_batched_tokens: Count
    max_num_seqs: Count
    gpu_memory_utilization: PositiveShare
    non_kv_gb_per_gpu: NonNegative
    num_gpu_blocks_override: Annotated[int, Field(ge=2)] | None
    enable_prefix_caching: bool
    long_prefill_token_threshold: Whole
    watermark: Annotated[float, Field(ge=0, lt=1)]
    scheduling_policy: Literal["fcfs", "priority", "lpm", "dfs_weight"]
    scheduler_reserve_full_isl: bool
    async_scheduling: bool
    batching: Literal["continuous", "static"]
    cudagraph_capture_sizes: Annotated[tuple[Count, ...], Strict(False)]
    tune_colocated_budget: bool
    colocated_budgets: Counts


class Hbm(Section):
    """``hardware.hbm``: one GPU; ``null`` leaves what the known GPU has."""

    kv_capacity_gb: Positive | None
    read_gb_per_s: Positive | None
    write_gb_per_s: Positive | None
    read_latency_ms: NonNegative


class Tier(Section):
    """``hardware.dram``, ``hardware.ssd``: a tier of one host below the GPUs' own memory."""

    capacity_gb: NonNegative
    read_gb_per_s: Positive
    write_gb_per_s: Positive
    read_latency_ms: NonNegative


class Dram(Tier):
    """``hardware.dram``: rates of one GPU's way there, beside that of the whole host's memory."""

    host_gb_per_s: Positive


class Hardware(Section):
    """``hardware``: the GPU and the tiers beside it."""

    gpu: Name
    memory_gib: Positive | None
    peak_tflops: Positive | None
    hbm: Hbm
    dram: Dram
    ssd: Tier


TierNames = Annotated[tuple[Literal["dram", "eic", "ssd"], ...], Strict(False)]


class Cache(Section):
    """``cache``: how prefixes are kept, and what moves between the tiers."""

    prefix_cache: Literal["paged", "radix"]
    block_size_bytes: Count | None
    num_workers: Count
    tiers: TierNames
    chunk_tokens: Count
    write_policy: Literal["write_through", "write_back"]
    inclusive: bool
    promote_on_hit: bool
    async_backup: bool
    load_or_recompute: bool
    load_at: Literal["scheduling", "arrival"]
    contention: Literal["max_min", "fifo"]
    max_write_wait_s: NonNegative
    restart_after_requests: Count | None
