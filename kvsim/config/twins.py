"""Quantities that two keys spell: the later layer wins, and within one layer the more specific key.

Without this rule ``--set engine.block_size=32`` would be ignored, unsaid, over a file that gives
``pd_separation.compute.tokens_per_block``.
"""

from __future__ import annotations

from kvsim.config.layer import Layer, Tree, get, has, merged, put
from kvsim.config.yaml_source import shown

MORE_SPECIFIC: dict[str, tuple[str, ...]] = {
    "seed": (
        "cluster.network.seed",
        "trace.seed",
        "cluster_trace.seed",
        "pd_trace.seed",
        "agent_trace.seed",
    ),
    "model.params_billions": ("pd_separation.compute.model_params_b",),
    "model.kv_bytes_per_token": ("pd_separation.compute.kv_bytes_per_token", "cache.block_size_bytes"),
    "pd_separation.compute.kv_bytes_per_token": ("cache.block_size_bytes",),
    "engine.block_size": ("pd_separation.compute.tokens_per_block", "cache.block_size_bytes"),
    "pd_separation.compute.tokens_per_block": ("cache.block_size_bytes",),
    "hardware.hbm.kv_capacity_gb": ("cluster.gpu.kv_capacity_gb",),
    "hardware.hbm.read_gb_per_s": ("cluster.gpu.hbm_read_gb_per_s",),
    "hardware.hbm.write_gb_per_s": ("cluster.gpu.hbm_write_gb_per_s",),
    "hardware.hbm.read_latency_ms": ("cluster.gpu.hbm_latency_ms",),
    "cluster.network.p2p_rdma_gb_per_s": ("pd_separation.transfer.rdma_gb_per_s",),
    "cluster.network.p2p_rdma_latency_us": ("pd_separation.transfer.rdma_latency_us",),
    "pd_experiments.num_requests": ("pd_trace.num_requests",),
}
"""Key -> the keys that stand for the same quantity where they are not null. ``kvsim.config.derived`` reads them so."""


def overlaid(below: Tree, layer: Layer) -> tuple[Tree, list[str]]:
    """``below`` overlaid by ``layer``, and a note for every older value that the layer's twin of it replaces."""
    result, notes = merged(below, layer.tree), []
    for key, specific_keys in MORE_SPECIFIC.items():
        for specific in specific_keys:
            if not has(layer.tree, key) or has(layer.tree, specific) or not has(result, specific):
                continue
            old = get(result, specific)
            if old is not None:
                notes.append(f"{layer.where}: {key} replaces {specific} = {shown(old)} of a lower layer")
                result = put(result, specific, None)
    return result, notes
