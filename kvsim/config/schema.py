"""The schema of ``config.yaml``, section by section: types and ranges. Defaults stand there, not here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from kvsim.config.autoscale_keys import Autoscale
from kvsim.config.cluster_keys import Cluster
from kvsim.config.cost_keys import Cost
from kvsim.config.engine_keys import Engine
from kvsim.config.fleet_keys import Clients, Fleet
from kvsim.config.models_keys import ModelItem
from kvsim.config.routing_keys import Routing
from kvsim.config.section import (
    Count,
    Counts,
    Factor,
    Name,
    NonNegative,
    Positive,
    PositiveShare,
    Ratio,
    Ratios,
    Section,
    Share,
    TierNames,
    Whole,
)
from kvsim.config.steptime_keys import Coefficients


class Model(Section):
    """``model``: which one, and numbers that replace those of the known model."""

    name: Name
    weight_dtype: Literal["bf16", "fp16", "fp8", "int8", "int8_wo", "int4", "int4_g32", "mxfp4", "nvfp4"]
    kv_dtype: Literal["bf16", "fp16", "fp8", "fp8_per_token_head", "int8"]
    max_model_len: Count
    params_billions: Positive | None
    kv_bytes_per_token: Count | None


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
    scope: Literal["host", "instance"]


class Hardware(Section):
    """``hardware``: the GPU and the tiers beside it."""

    gpu: Name
    memory_gib: Positive | None
    peak_tflops: Positive | None
    hbm: Hbm
    dram: Dram
    ssd: Tier


class StepTime(Section):
    """``steptime``: the method, the roofline's efficiencies, and a profile's coefficients or operator times."""

    method: Literal["auto", "roofline", "fitted", "tables"]
    compute_efficiency: PositiveShare
    memory_efficiency: PositiveShare
    attention_memory_efficiency: PositiveShare
    attention_compute_efficiency: PositiveShare
    mixed_attention_factor: Factor
    allreduce_latency_us: NonNegative
    allreduce_efficiency: PositiveShare
    pcie_allreduce_latency_us: NonNegative
    pcie_allreduce_gb_per_s: Positive
    collective_latency_us: NonNegative
    collective_latency_us_per_gpu: NonNegative
    step_overhead_us: NonNegative
    sequence_overhead_us: NonNegative
    coefficients: Coefficients | None
    operators: Name | None


class Cache(Section):
    """``cache``: how prefixes are kept, and what moves between the tiers."""

    prefix_cache: Literal["paged", "radix"]
    block_size_bytes: Count | None
    num_workers: Count
    tiers: TierNames
    chunk_tokens: Count
    write_policy: Literal["write_through", "write_back"]
    connector: Literal["general", "offloading"]
    write_generated: bool
    inclusive: bool
    promote_on_hit: bool
    async_backup: bool
    load_or_recompute: bool
    load_at: Literal["scheduling", "arrival"]
    contention: Literal["max_min", "fifo"]
    max_write_wait_s: NonNegative
    restart_after_requests: Count | None


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
    prefill_rdma_gb_per_s: Positive | None
    decode_rdma_gb_per_s: Positive | None
    rdma_efficiency: PositiveShare
    rdma_latency_us: NonNegative | None
    setup_us: NonNegative
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
    prefill_gpu: Name | None
    decode_gpu: Name | None
    first_token: Literal["decode", "prefill"]
    chunked_prefill: bool
    chunk_size_tokens: Count | None
    max_output_tokens: Count | None
    output_margin_tokens: Whole
    return_generated_kv: bool
    proxy_ms: NonNegative
    tiers: TierNames
    compute: Compute
    transfer: Transfer


class Slo(Section):
    """``slo``: a request is good when it meets both."""

    ttft_ms: Positive
    tpot_ms: Positive
    share: PositiveShare


class ChatTrace(Section):
    """``trace``, ``cluster_trace``: multi-turn chat over shared prompts and documents."""

    num_sessions: Count
    turns_per_session: Count
    prompt_tokens_min: Count
    prompt_tokens_max: Count
    initial_context_tokens: Whole
    num_system_prompts: Count
    num_shared_docs: Whole
    num_rag_chunks: Whole
    doc_zipf_alpha: NonNegative
    output_tokens_mean: Positive
    think_time_s: NonNegative
    qps: Positive | None
    seed: Whole | None


class PdTrace(Section):
    """``pd_trace``: the default traffic of prefill/decode runs."""

    kind: Literal["chat", "rag"]
    arrivals: Literal["poisson", "constant", "gamma", "on_off", "diurnal"]
    num_requests: Count | None
    num_sessions: Count | None
    turns_per_session: Count
    num_system_prompts: Count
    system_prompt_tokens: Whole
    prompt_tokens_min: Count | None
    prompt_tokens_max: Count | None
    new_tokens_mean: Positive
    new_tokens_cv: NonNegative
    initial_context_tokens: Whole | None
    history_tokens_mean: NonNegative
    output_tokens_mean: Positive
    output_tokens_cv: NonNegative
    think_time_s: NonNegative
    num_shared_docs: Whole
    num_rag_chunks: Whole
    doc_zipf_alpha: NonNegative
    qps: Positive | None
    seed: Whole | None


class AgentTrace(Section):
    """``agent_trace``: long sessions of tool calls, whose results grow the context."""

    num_sessions: Count
    turns_min: Count
    turns_max: Count
    tool_def_tokens: Whole
    tool_result_min_tokens: Count
    tool_result_max_tokens: Count
    reasoning_tokens: Whole
    num_tool_sets: Count
    num_system_prompts: Count
    qps: Positive
    seed: Whole | None


class Experiment(Section):
    """``experiments``, ``cluster_experiments``: how many requests a run takes, and where its files go."""

    num_requests: Count | None
    warmup_requests: Whole | None
    warmup_share: Annotated[float, Field(ge=0, le=0.9)]
    output_dir: Name


class PdExperiment(Experiment):
    """``pd_experiments``: also the prefill:decode ratios that a ratio study tries."""

    pd_ratios: Ratios


class Load(Section):
    """``load``: the share of a system's maximum rate that arrivals are brought to."""

    rho: Positive
    of: Literal["pd", "unified"]
    lora_adapters: Count | None
    warm_caches: bool
    pilot_requests: Count
    pilot_gpus: Count
    assumed_tpot_ms: Positive
    unsteady_factor: NonNegative


class Prices(Section):
    """``studies.price_per_gb``: what memory costs, once."""

    dram: NonNegative
    ssd: NonNegative
    file_system: NonNegative


class Studies(Section):
    """``studies``: runs on a sample of the cluster that answer one question each."""

    instances: Annotated[int, Field(ge=2)]
    replications: Annotated[int, Field(ge=2)]
    most_replications: Annotated[int, Field(ge=2)]
    budget_requests: Count
    tier_budget_requests: Count
    cpu_budget_s: Positive | None
    max_requests: Count
    tier_max_requests: Count
    fewest_requests: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    precision: PositiveShare
    tie_share: Share
    context_tokens: Counts
    context_output_tokens: Count
    capacity_shares: Annotated[tuple[PositiveShare, ...], Field(min_length=1), Strict(False)]
    evictions: Annotated[tuple[Name, ...], Strict(False)]
    eic_gb_per_rack: Annotated[tuple[NonNegative, ...], Field(min_length=1), Strict(False)]
    price_per_gb: Prices


class Recommend(Section):
    """``recommend``: the deployments that are tried, and how long each is simulated."""

    max_num_batched_tokens: Counts
    max_num_seqs: Counts
    routing: Annotated[tuple[Name, ...], Field(min_length=1), Strict(False)]
    most_gpus: Count
    lives: Positive
    fewest_requests: Count
    most_requests: Count
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    screening_share: PositiveShare
    keep_share: Annotated[float, Field(gt=0, lt=1)]
    replications: Annotated[int, Field(ge=2)]
    most_replications: Annotated[int, Field(ge=2)]
    budget_requests: Count
    tie_share: Share
    resolution: Annotated[float, Field(gt=0, lt=1)]
    bisection_replications: Annotated[int, Field(ge=3)]


class Limits(Section):
    """``limits``: what one simulation may take; what would take more is refused before it starts."""

    cpu_s: Positive


class Policies(Section):
    """``policies``: names are checked against the registry where the system is built."""

    eviction: Name
    prefetch: Name
    admission: Name
    selective_write: bool
    selective_write_depth_threshold: Whole
    ttl_s: Positive
    learned_model: Name | None
    learned_train_fraction: Annotated[float, Field(gt=0, lt=1)]


class Config(Section):
    """What a run is built from. Mirrors ``config.yaml``, less ``presets``, which are merged before."""

    seed: Whole
    model: Model
    models: Annotated[tuple[ModelItem, ...], Strict(False)]
    engine: Engine
    hardware: Hardware
    cost: Cost
    steptime: StepTime
    cache: Cache
    cluster: Cluster
    pd_separation: PdSeparation
    routing: Routing
    fleet: Fleet
    autoscale: Autoscale
    clients: Clients
    slo: Slo
    trace: ChatTrace
    cluster_trace: ChatTrace
    pd_trace: PdTrace
    agent_trace: AgentTrace
    experiments: Experiment
    cluster_experiments: Experiment
    pd_experiments: PdExperiment
    load: Load
    studies: Studies
    recommend: Recommend
    limits: Limits
    policies: Policies
