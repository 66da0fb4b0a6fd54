"""The spellings of kvcache-sim, which are accepted beside kvsim's own. ``gbps`` there means GB/s."""

from __future__ import annotations

from typing import Any

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
