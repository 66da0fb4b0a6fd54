"""The schema of ``cluster``: its scale, its pools, its network, and the memory that a rack shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from kvsim.config.section import (
    Count,
    Factor,
    Item,
    Name,
    NonNegative,
    Positive,
    PositiveShare,
    Section,
    Share,
    TierNames,
    Whole,
)


class ClusterGpu(Section):
    """``cluster.gpu``: as ``hardware.hbm``, for cluster runs; ``null`` leaves what stands there."""

    kv_capacity_gb: Positive | None
    hbm_read_gb_per_s: Positive | None
    hbm_write_gb_per_s: Positive | None
    hbm_latency_ms: NonNegative | None


class Eic(Section):
    """``cluster.eic``: the memory pool that a rack's GPUs share."""

    nodes_per_rack: Whole
    capacity_per_node_gb: NonNegative
    read_gb_per_s: Positive
    write_gb_per_s: Positive
    access_latency_ms: NonNegative


class Network(Section):
    """``cluster.network``: NVLink inside a host, RDMA beyond."""

    gpus_per_host: Count
    intra_rack_latency_us: NonNegative
    cross_rack_latency_us: NonNegative
    remote_ssd_latency_us: NonNegative
    nvlink_gb_per_s: Positive | None
    nvlink_latency_us: NonNegative
    p2p_rdma_gb_per_s: Positive
    p2p_rdma_latency_us: NonNegative
    rack_oversubscription: Factor
    jitter_cv: NonNegative
    tail_jitter_prob: Share
    tail_jitter_multiplier: Factor
    contention_enabled: bool
    seed: Whole | None


class Pool(Item):
    """An item of ``cluster.pools``: unified instances of one kind."""

    gpu: Name
    instances: Count
    tensor_parallel_size: Count | None = None
    max_num_batched_tokens: Count | None = None
    max_num_seqs: Count | None = None
    gpu_memory_utilization: PositiveShare | None = None


class Cluster(Section):
    """``cluster``: the scale that is described and the scale that is simulated."""

    total_gpus: Count
    gpus_per_rack: Count
    simulate_racks: Count
    simulate_gpus_per_rack: Count
    pools: Annotated[tuple[Pool, ...], Field(min_length=1), Strict(False)] | None
    tiers: TierNames
    ssd_scope: Literal["host", "rack", "cluster"]
    gpu: ClusterGpu
    eic: Eic
    network: Network
