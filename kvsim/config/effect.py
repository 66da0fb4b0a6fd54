"""Settings that a configuration may give, and that a run does not look at."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.config.load import load_config
from kvsim.config.schema import Config
from kvsim.config.steptime_keys import FOR_METHOD, NVLINK, PCIE, ROOFLINE, SHARES
from kvsim.config.tree import dump, get
from kvsim.spec import find_gpu, find_model
from kvsim.spec.tier_kinds import TIERS

HBM = (
    "hardware.hbm.write_gb_per_s",
    "hardware.hbm.read_latency_ms",
    "cluster.gpu.hbm_write_gb_per_s",
    "cluster.gpu.hbm_latency_ms",
)
"""What no run looks at: step times know how fast memory is read."""
WITHOUT_EFFECT = (*HBM, "cache.num_workers", "cluster.gpus_per_rack")
WITHOUT_TIERS = (
    "hardware.dram",
    "hardware.ssd",
    "cache.promote_on_hit",
    "cache.async_backup",
    "cache.chunk_tokens",
    "cache.write_policy",
    "cache.connector",
    "cache.write_generated",
    "cache.inclusive",
    "cache.load_or_recompute",
    "cache.load_at",
    "cache.contention",
    "cache.max_write_wait_s",
    "cluster.eic",
    "cluster.ssd_scope",
    "cluster.network.remote_ssd_latency_us",
    "routing.sees_tiers",
    "policies",
)
"""What only tiers look at."""
TIERS_OF_OTHERS = ("cache.tiers", "cluster.tiers")
"""The tiers of the single node and of ``--cluster``, where a prefill/decode run has ``pd_separation.tiers``."""

SINGLE_NODE = (
    "cluster.pools",
    "cluster.gpu.kv_capacity_gb",
    "cluster.gpu.hbm_read_gb_per_s",
    "cluster.network.rack_oversubscription",
)
"""What a single node does not look at: its GPUs are those of ``hardware``, in one rack."""
NETWORK = (
    "cluster.network.jitter_cv",
    "cluster.network.tail_jitter_prob",
    "cluster.network.tail_jitter_multiplier",
    "cluster.network.contention_enabled",
)
"""Nor at these, unless it loads from a pool: its drives are its hosts' own. Nor does a cluster of host memory alone."""

SHARING = (
    "engine.all2all_backend",
    "engine.dp_sync_interval",
    "steptime.collective_latency_us",
    "steptime.collective_latency_us_per_gpu",
)
"""What only data-parallel engines that share experts look at."""
OF_ROLES = (
    "pd_separation.prefill_gpu",
    "pd_separation.decode_gpu",
    "pd_separation.transfer.prefill_rdma_gb_per_s",
    "pd_separation.transfer.decode_rdma_gb_per_s",
)
"""What only prefill and decode instances look at."""
OF_ADAPTERS = (
    "load.lora_adapters",
    "engine.max_loras",
    "engine.max_lora_rank",
    "engine.max_cpu_loras",
    "engine.lora_loading",
    "engine.lora_disk_gb_per_s",
    "routing.lora_affinity",
)
BACKOFF = tuple(f"clients.{name}" for name in ("backoff_s", "backoff_factor", "backoff_max_s", "backoff_jitter"))
"""What only clients look at that send requests again."""
WITHOUT_RAG = ("pd_trace.arrivals", "pd_trace.num_shared_docs", "pd_trace.num_rag_chunks", "pd_trace.doc_zipf_alpha")
"""What only RAG traffic looks at."""


def _unseen_by_step_times(config: Config) -> dict[str, str]:
    """What step times do not look at, and why."""
    method, gpu = config.steptime.method, config.hardware.gpu
    of_method = f"steptime.method is {method}"
    if method == "auto":
        return dict.fromkeys((*ROOFLINE, *FOR_METHOD), f"{of_method}: another value needs 'roofline'")
    if method == "fitted":
        return dict.fromkeys((*ROOFLINE, "steptime.operators"), of_method)
    has_nvlink = find_gpu(gpu).has_nvlink
    of_links = dict.fromkeys(PCIE if has_nvlink else NVLINK, f"{gpu} has {'NVLink' if has_nvlink else 'no NVLink'}")
    others = SHARES if method == "tables" else ("steptime.operators",)
    return of_links | dict.fromkeys(("steptime.coefficients", *others), of_method)


def _unseen_speculation(config: Config) -> dict[str, str]:
    """What of ``engine.speculative`` is not looked at, and why."""
    given, key = config.engine.speculative, "engine.speculative"
    if given.method is None:
        return {key: f"{key}.method is null"}
    unseen = {f"{key}.acceptance_of": f"{key}.acceptance is given"} if given.acceptance else {}
    if given.method == "ngram":
        names = ("draft_tensor_parallel_size", "draft_params_billions", "pass_overhead_us")
        unseen |= {f"{key}.{name}": f"{key}.method is ngram" for name in names}
    return unseen


def _unseen_adapters(config: Config) -> dict[str, str]:
    """What only engines with LoRA adapters look at, where there are none, and why."""
    return {} if config.engine.enable_lora else dict.fromkeys(OF_ADAPTERS, "engine.enable_lora is false")


def _unseen_sharing(config: Config) -> dict[str, str]:
    """What only data-parallel engines that share experts look at, where there are none, and why."""
    engine, is_moe = config.engine, find_model(config.model.name).is_moe
    if engine.data_parallel_size == 1 or not is_moe:
        why = "engine.data_parallel_size is 1" if is_moe else f"{config.model.name} is no mixture of experts"
        return dict.fromkeys(SHARING, why)
    if not engine.share_experts:
        return dict.fromkeys(SHARING, "engine.share_experts is false")
    if not engine.enable_expert_parallel:
        return {"engine.all2all_backend": "engine.enable_expert_parallel is false: slices of experts are gathered for"}
    return {}


def _unseen_of_fleet(config: Config) -> dict[str, str]:
    """What is looked at where something happens to instances, or clients send requests again, and why it is not."""
    fleet, clients = config.fleet, config.clients
    unseen: dict[str, str] = {}
    drains = config.autoscale.is_on and config.autoscale.drain_grace_s is not None
    if not fleet.events:
        unseen["fleet.detection_s"] = "fleet.events is empty"
    if not fleet.events and not drains:
        unseen |= dict.fromkeys(("fleet.resend", "fleet.max_resends"), "no instance loses what it has")
    elif not fleet.resend:
        unseen["fleet.max_resends"] = "fleet.resend is false"
    if clients.timeout_s is None and not fleet.events and not drains:
        why = "clients.timeout_s is null, and no client sees an error"
        unseen |= dict.fromkeys(("clients.retries", *BACKOFF), why)
    elif not clients.retries:
        unseen |= dict.fromkeys(BACKOFF, "clients.retries is 0")
    return unseen


def _unseen(config: Config) -> dict[str, str]:
    """What a prefill/decode run does not look at, and why."""
    unseen = dict.fromkeys(WITHOUT_EFFECT, "no prefill/decode run looks at it")
    if config.pd_trace.kind != "rag":
        unseen |= dict.fromkeys(WITHOUT_RAG, f"pd_trace.kind is {config.pd_trace.kind}")
    unseen |= dict.fromkeys(TIERS_OF_OTHERS, "what a prefill/decode run has is pd_separation.tiers")
    if not config.pd_separation.tiers:
        unseen |= dict.fromkeys(WITHOUT_TIERS, "no tiers are in use (set pd_separation.tiers)")
    return unseen | _unseen_of_engines(config) | _unseen_by_step_times(config)


def _unseen_of_engines(config: Config) -> dict[str, str]:
    return _unseen_speculation(config) | _unseen_sharing(config) | _unseen_adapters(config) | _unseen_of_fleet(config)


def without_effect(config: Config, mode: str) -> list[str]:
    """Settings that a run of ``mode`` (``single``, ``cluster``, ``pd``, ``predict``) does not look at and that differ
    from ``config.yaml``: somebody may count on them.
    """
    if mode == "predict":
        # Chat there is what config.yaml has, and --requests and --rate say how much of it.
        traffic = [f"pd_trace.{name}" for name in type(config.pd_trace).model_fields]
        others = [key for key in _unseen(config) if not key.startswith(("pd_trace.", "cluster."))]
        return _given(config, [*traffic, *others, *OF_ROLES])
    if mode == "pd":
        return _given(config, tuple(_unseen(config)))
    return _given(config, _unseen_with_tiers(config, mode == "cluster"))


def why_unseen(config: Config, key: str) -> str | None:
    """Why a prefill/decode run does not look at this setting; ``None`` where it may."""
    return next((why for path, why in _unseen(config).items() if f"{key}.".startswith(f"{path}.")), None)


def _unseen_with_tiers(config: Config, is_cluster: bool) -> tuple[str, ...]:
    """What a run of ``--cluster`` or of the single node does not look at."""
    unseen = (*HBM, "cluster.gpus_per_rack", *_unseen_of_engines(config), *_unseen_by_step_times(config))
    unseen = (*unseen, *OF_ROLES) if is_cluster else (*unseen, *OF_ROLES, *SINGLE_NODE)
    tiers = config.cluster.tiers if is_cluster else config.cache.tiers
    if not tiers:
        unseen = (*unseen, *WITHOUT_TIERS)
    # The hosts that drives could be of stand in the cluster alone.
    away = ("always", "other_hosts") if is_cluster else ("always",)
    is_remote = any(kind.over_nics in away for kind in TIERS if kind.name in tiers)
    return unseen if is_remote else (*unseen, *NETWORK)


def _given(config: Config, paths: Sequence[str]) -> list[str]:
    given, shipped = dump(config), dump(load_config().config)
    return [path for path in paths if get(given, path) != get(shipped, path)]
