"""Keys of ``engine``: vLLM's arguments by their names, and what they do not say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from kvsim.config.section import (
    Acceptance,
    Count,
    Counts,
    Name,
    NonNegative,
    Positive,
    PositiveShare,
    Section,
    Share,
    Whole,
)


class Speculative(Section):
    """``engine.speculative``: what drafts, and how often drafts are accepted."""

    method: Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"] | None
    num_speculative_tokens: Annotated[int, Field(ge=1, le=64)]
    acceptance: Acceptance
    acceptance_of: Name | None
    proposed_share: Share | None
    model: Name | None
    draft_tensor_parallel_size: Count | None
    draft_params_billions: Positive | None
    pass_overhead_us: NonNegative


class Sglang(Section):
    """``engine.sglang``: what SGLang's scheduler is asked beside what vLLM's is, by SGLang's names."""

    enable_mixed_chunk: bool
    max_prefill_tokens: Count
    schedule_conservativeness: NonNegative
    ignore_eos: bool


class ExpertLoad(Section):
    """``engine.expert_load``: how many of all tokens each expert gets."""

    distribution: Literal["uniform", "power_law", "measured"]
    exponent: NonNegative
    shares: Annotated[tuple[NonNegative, ...], Strict(False)]


All2AllBackend = Literal[
    "naive",
    "allgather_reducescatter",
    "pplx",
    "deepep_high_throughput",
    "deepep_low_latency",
    "deepep_v2",
    "mori_high_throughput",
    "mori_low_latency",
    "moonep",
    "nixl_ep",
    "flashinfer_all2allv",
    "flashinfer_nvlink_two_sided",
    "flashinfer_nvlink_one_sided",
]


class Engine(Section):
    """``engine``: the arguments of one instance, named as vLLM names them."""

    tensor_parallel_size: Count
    pipeline_parallel_size: Count
    pipeline_layers: Annotated[tuple[Count, ...], Strict(False)]
    data_parallel_size: Count
    enable_expert_parallel: bool
    share_experts: bool
    all2all_backend: All2AllBackend | None
    dp_sync_interval: Count
    enable_eplb: bool
    num_redundant_experts: Whole
    expert_load: ExpertLoad
    block_size: Count
    max_num_batched_tokens: Count
    max_num_seqs: Count
    gpu_memory_utilization: PositiveShare
    non_kv_gb_per_gpu: NonNegative | None
    kv_cache_memory_bytes: Count | None
    enforce_eager: bool
    vllm_version: Name
    num_gpu_blocks_override: Annotated[int, Field(ge=2)] | None
    enable_prefix_caching: bool
    disable_hybrid_kv_cache_manager: bool | None
    enable_chunked_prefill: bool
    long_prefill_token_threshold: Whole
    watermark: Annotated[float, Field(ge=0, lt=1)]
    scheduler: Literal["vllm", "sglang"]
    sglang: Sglang
    scheduling_policy: Name
    scheduler_reserve_full_isl: bool
    async_scheduling: bool
    batching: Literal["continuous", "static"]
    cudagraph_capture_sizes: Annotated[tuple[Count, ...], Strict(False)]
    tune_colocated_budget: bool
    colocated_budgets: Counts
    enable_lora: bool
    max_loras: Count
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
    max_cpu_loras: Count | None
    lora_loading: bool
    lora_disk_gb_per_s: Positive
    speculative: Speculative
