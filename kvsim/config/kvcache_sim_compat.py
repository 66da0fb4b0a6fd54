"""What is accepted for the sake of configuration files of kvcache-sim: its spellings, and its keys of one quantity.

``gbps`` there means GB/s. Of two keys of one quantity the later layer wins, and within one layer the more specific key.
"""

from __future__ import annotations

from typing import Any

from kvsim.config.tree import Tree, get, has, merged, put
from kvsim.config.yaml_source import shown
from kvsim.errors import ConfigError

_TIER = {"read_bw_gbps": "read_gb_per_s", "write_bw_gbps": "write_gb_per_s"}

SPELLINGS: dict[str, dict[str, str]] = {
    "hardware.hbm": {"capacity_gb": "kv_capacity_gb", **_TIER},
    "hardware.dram": _TIER,
    "hardware.ssd": _TIER,
    "cluster.gpu": {
        "hbm_capacity_gb": "kv_capacity_gb",
        "hbm_read_bw_gbps": "hbm_read_gb_per_s",
        "hbm_write_bw_gbps": "hbm_write_gb_per_s",
    },
    "cluster.eic": _TIER,
    "cluster.network": {
        "nvlink_bw_gbps": "nvlink_gb_per_s",
        "p2p_rdma_bw_gbps": "p2p_rdma_gb_per_s",
        "gpus_per_node": "gpus_per_host",
    },
    "pd_separation.compute": {"decode_memory_bw_gbps": "decode_memory_gb_per_s"},
    "pd_separation.transfer": {"rdma_bw_gbps": "rdma_gb_per_s"},
    "agent_trace": {"tool_result_min": "tool_result_min_tokens", "tool_result_max": "tool_result_max_tokens"},
}
"""Section -> its keys in the other spelling -> the own key."""


def own_spelling(tree: dict[Any, Any], where: str, section: str = "") -> tuple[dict[Any, Any], list[str]]:
    """``tree`` with kvsim's own keys, and which were respelled (``"section.key -> own_key"``).

    Raises ``ConfigError`` when a section gives both spellings of one key.
    """
    own_keys = SPELLINGS.get(section, {})
    own: dict[Any, Any] = {}
    respelled: list[str] = []
    for key, value in tree.items():
        own_key = own_keys.get(key, key) if isinstance(key, str) else key
        path = f"{section}.{key}" if section else str(key)
        if own_key != key:
            if own_key in tree:
                raise ConfigError(
                    f"{where}: {section} gives both {shown(key)} and {shown(own_key)}, spellings of one key; keep one"
                )
            respelled.append(f"{path} -> {own_key}")
        if isinstance(value, dict):
            value, inside = own_spelling(value, where, path)
            respelled += inside
        own[own_key] = value
    return own, respelled


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
    "engine.kv_cache_memory_bytes": ("hardware.hbm.kv_capacity_gb", "cluster.gpu.kv_capacity_gb"),
    "hardware.hbm.kv_capacity_gb": ("cluster.gpu.kv_capacity_gb",),
    "hardware.hbm.read_gb_per_s": ("cluster.gpu.hbm_read_gb_per_s",),
    "hardware.hbm.write_gb_per_s": ("cluster.gpu.hbm_write_gb_per_s",),
    "hardware.hbm.read_latency_ms": ("cluster.gpu.hbm_latency_ms",),
    "cluster.network.p2p_rdma_gb_per_s": ("pd_separation.transfer.rdma_gb_per_s",),
    "cluster.network.p2p_rdma_latency_us": ("pd_separation.transfer.rdma_latency_us",),
    "pd_experiments.num_requests": ("pd_trace.num_requests",),
}
"""Key -> kvcache-sim's keys of the same quantity, which count where they are not null (:mod:`kvsim.config.derived`)."""


def overlaid(below: Tree, above: Tree, where: str) -> tuple[Tree, list[str]]:
    """``below`` overlaid by ``above``, and a note for every older value that another key of the latter replaces.

    Without it ``--set engine.block_size=32`` would be ignored, unsaid, over a file that gives
    ``pd_separation.compute.tokens_per_block``. ``where`` names ``above`` in the notes.
    """
    result, notes = merged(below, above), []
    for key, specific_keys in MORE_SPECIFIC.items():
        for specific in specific_keys:
            if not has(above, key) or has(above, specific) or not has(result, specific):
                continue
            old = get(result, specific)
            if old is not None:
                notes.append(f"{where}: {key} replaces {specific} = {shown(old)} of a lower layer")
                result = put(result, specific, None)
    return result, notes
