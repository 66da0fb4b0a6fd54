"""Settings that a configuration may give, and that a prefill/decode run does not look at."""

from __future__ import annotations

from typing import Any

from kvsim.config.load import load_config
from kvsim.config.schema import Config, dump

WITHOUT_EFFECT = (
    "hardware.hbm.write_gb_per_s",
    "hardware.hbm.read_latency_ms",
    "cache.num_workers",
    "cluster.gpu.hbm_write_gb_per_s",
    "cluster.gpu.hbm_latency_ms",
)
WITHOUT_TIERS = (
    "hardware.dram",
    "hardware.ssd",
    "cache.promote_on_hit",
    "cache.async_backup",
    "cache.chunk_tokens",
    "cache.write_policy",
    "cache.inclusive",
    "cache.load_or_recompute",
    "cluster.eic",
    "cluster.network.remote_ssd_latency_us",
    "policies",
)
"""What only tiers look at."""

WITHOUT_RAG = ("pd_trace.arrivals", "pd_trace.num_shared_docs", "pd_trace.num_rag_chunks", "pd_trace.doc_zipf_alpha")
"""What only RAG traffic looks at."""


def without_effect(config: Config) -> list[str]:
    """Of those settings the ones that differ from ``config.yaml``: somebody may count on them."""
    given, shipped = dump(config), dump(load_config().config)
    unseen = WITHOUT_EFFECT if config.pd_trace.kind == "rag" else (*WITHOUT_EFFECT, *WITHOUT_RAG)
    if not config.pd_separation.tiers:
        unseen = (*unseen, *WITHOUT_TIERS)
    return [path for path in unseen if _at(given, path) != _at(shipped, path)]


def _at(tree: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree
