"""The report's ``cluster`` section: what was simulated, and what it could have served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim.capacity.binding import Binding
from kvsim.capacity.demand import Demand
from kvsim.capacity.gathered import served_demand
from kvsim.capacity.load_search import Offered, Tuning
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate
from kvsim.capacity.slo_rate import SloRate
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult

Maxima = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Size of what was simulated, in every mode."""

    gpus: int
    instances: int
    racks: int
    prefill_instances: int
    """0 where no ``pd`` system ran, as ``decode_instances``."""
    decode_instances: int
    balanced_pd_ratio: tuple[int, int] | None
    """Prefill and decode instances at which both sides are loaded alike; ``None`` where no ``pd`` system ran."""


@dataclass(frozen=True, kw_only=True)
class MaximumRates:
    """Analytic maximum rates of the roles, requests/s; ``None`` of a system that did not run."""

    prefill: float | None
    decode: float | None
    unified: float | None


@dataclass(frozen=True, kw_only=True)
class PdCluster(Cluster):
    """What ``--pd`` simulated, and what it could have served."""

    prefill_gpus_per_instance: int
    decode_gpus_per_instance: int
    described_gpus: int
    """GPUs of the whole cluster as configured."""
    kv_blocks_per_instance: int
    kv_cache_tokens_per_instance: int
    kv_blocks_per_prefill_instance: int
    kv_blocks_per_decode_instance: int
    unified_token_budget: int
    unified_tuning: Tuning | None
    max_requests_per_s: MaximumRates
    served_max_requests_per_s: Mapping[str, float | None]
    """Maximum rate of each system for the requests that completed inside the window; ``None``: none did."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TieredCluster(Cluster):
    """What the single node or ``--cluster`` simulated, and what it could have served."""

    described_gpus: int
    """GPUs of the whole cluster as configured."""
    kv_blocks_per_instance: int
    kv_cache_tokens_per_instance: int
    kv_cache_bytes_per_instance: float
    tiers: tuple[str, ...]
    served_max_requests_per_s: Mapping[str, float]
    """Maximum rate of each variant."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeployedCluster(Cluster):
    """What ``predict`` simulated, and what it could have served."""

    kv_blocks_per_instance: int
    kv_cache_tokens_per_instance: int
    kv_cache_bytes_per_gpu: float
    max_concurrency: float
    """Requests of ``max_model_len`` tokens that an instance's KV cache holds."""
    served_max_requests_per_s: Mapping[str, float]
    """Maximum rate of the deployment, by arithmetic with the hits of this run."""
    binding: Binding | None = None
    """``None``: not asked, or not to be had."""
    slo_rate: SloRate | None = None
    """``None``: not asked, or not to be had."""
    warnings: tuple[str, ...] = ()


def cluster_section(
    mode: Mode,
    offered: Offered,
    results: Sequence[SystemResult],
    maxima: Maxima,
    demand: Demand,
    *,
    has_pd: bool,
) -> PdCluster | TieredCluster | DeployedCluster:
    """``maxima``: requests/s by variant and role; ``demand``: what requests ask of the PD system, if that was run.

    ``has_pd``: it was to be.
    """
    plan = offered.plan
    if mode.is_pd:
        return _of_pd(offered, results, demand, maxima, has_pd)
    if mode.name == "predict":
        return _deployed(plan, maxima)
    kv_tokens = plan.spec.num_blocks * plan.spec.block_size_tokens
    return TieredCluster(
        gpus=plan.num_gpus,
        instances=plan.num_instances,
        racks=plan.num_racks,
        prefill_instances=0,
        decode_instances=0,
        balanced_pd_ratio=None,
        described_gpus=plan.config.cluster.total_gpus,
        kv_blocks_per_instance=plan.colocated_settings.num_blocks + 1,
        kv_cache_tokens_per_instance=kv_tokens,
        kv_cache_bytes_per_instance=plan.spec.kv_cache_bytes(kv_tokens),
        tiers=plan.tiers,
        served_max_requests_per_s={name: min(roles.values()) for name, roles in maxima.items()},
    )


def _deployed(plan: Plan, maxima: Maxima) -> DeployedCluster:
    kv_tokens = plan.spec.kv_cache_tokens
    return DeployedCluster(
        gpus=plan.num_gpus,
        instances=plan.num_instances,
        racks=plan.num_racks,
        prefill_instances=0,
        decode_instances=0,
        balanced_pd_ratio=None,
        kv_blocks_per_instance=plan.colocated_settings.num_blocks + 1,
        kv_cache_tokens_per_instance=kv_tokens,
        kv_cache_bytes_per_gpu=plan.spec.kv_cache_bytes(kv_tokens) / plan.spec.num_gpus,
        max_concurrency=plan.spec.max_concurrency(plan.config.model.max_model_len),
        served_max_requests_per_s={name: min(roles.values()) for name, roles in maxima.items()},
    )


def _of_pd(
    offered: Offered, results: Sequence[SystemResult], demand: Demand, maxima: Maxima, has_pd: bool
) -> PdCluster:
    """``None`` stands for what is of a system that did not run: it would be by the hits of the other one."""
    plan = offered.plan
    pd, unified = maxima.get("pd", {}), maxima.get("unified", {})
    return PdCluster(
        gpus=plan.num_gpus,
        instances=plan.num_instances,
        racks=plan.num_racks,
        prefill_instances=plan.num_prefill if has_pd else 0,
        decode_instances=plan.num_decode if has_pd else 0,
        balanced_pd_ratio=balanced_pd_ratio(plan, demand) if pd else None,
        prefill_gpus_per_instance=plan.degrees[0],
        decode_gpus_per_instance=plan.degrees[1],
        described_gpus=plan.config.cluster.total_gpus,
        kv_blocks_per_instance=plan.colocated_settings.num_blocks + 1,
        kv_cache_tokens_per_instance=plan.spec.num_blocks * plan.spec.block_size_tokens,
        kv_blocks_per_prefill_instance=plan.prefill_settings.num_blocks + 1,
        kv_blocks_per_decode_instance=plan.decode_settings.num_blocks + 1,
        unified_token_budget=plan.colocated_settings.max_num_batched_tokens,
        unified_tuning=offered.tuning,
        max_requests_per_s=MaximumRates(
            prefill=pd.get("prefill"), decode=pd.get("decode"), unified=unified.get("colocated")
        ),
        served_max_requests_per_s={result.name: _served_maximum(offered, result) for result in results},
    )


def _served_maximum(offered: Offered, result: SystemResult) -> float | None:
    """The system's maximum rate for the requests that completed inside the measured window; ``None``: none did."""
    demand = served_demand(offered.workload, offered.plan, result)
    return None if demand is None else maximum_rate(offered.plan, demand, result.name)
