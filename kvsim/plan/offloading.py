"""vLLM's own offloading of KV to host memory, ``--kv-offloading-size``, as the tier that it is here.

Source: vLLM 0.32, ``VllmConfig._post_init_kv_transfer_config``, ``CPUOffloadingSpec`` and the scheduler's side of
``OffloadingConnector``, and the latter of 0.15; docs/tiers.md compares its rules with those here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvsim.fields import Fields
from kvsim.plan.vllm_defaults import is_since
from kvsim.spec import find_model
from kvsim.units import GB, GIB

MOST_GIB = 1e6
SETTLED_SINCE = (0, 22)
"""Before this version a connector turns the hybrid KV cache manager off, and the offloading one writes answers: the
changes (vLLM's pull requests 41847 and 43797) were merged after 0.21.0, in May 2026. Read: 0.15 and 0.32."""


def offloading_keys(arguments: Fields, server: Mapping[str, Any], tiers: str) -> dict[str, Any]:
    """Keys and values of engines that offload; none where ``kv_offloading_size`` is not among the arguments.

    It is in GiB, the sum over the GPUs of an engine; every data-parallel engine has as much. ``server``: the keys and
    values of its engines. ``tiers``: the key of the tiers in use. Raises ``ConfigError`` on a size that vLLM refuses.
    """
    key = "kv_offloading_size"
    if arguments.get(key) is None:
        return {}
    size_gib = arguments.number(key, MOST_GIB, 5e-324, f"must be GiB above 0 and at most {MOST_GIB:,.0f}")
    # Of a latent, which each GPU has whole, host memory has one copy; capacity_gb counts every GPU's.
    copies = server["engine.tensor_parallel_size"] if find_model(server["model.name"]).is_mla else 1
    is_settled = is_since(server.get("engine.vllm_version", ""), SETTLED_SINCE)
    keys = {} if is_settled else {"engine.disable_hybrid_kv_cache_manager": True}
    return keys | {
        tiers: ["dram"],
        "hardware.dram.scope": "instance",
        "hardware.dram.capacity_gb": size_gib * GIB / GB * copies,
        "cache.chunk_tokens": server["engine.block_size"],
        "cache.connector": "offloading",
        "cache.write_generated": not is_settled,
        "cache.load_or_recompute": False,
    }
