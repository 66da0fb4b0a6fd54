"""The groups of layers that an engine's hybrid KV cache manager has."""

from __future__ import annotations

from kvsim.config import Config
from kvsim.fields import Fields
from kvsim.plan.engine_settings import KV_GROUP_KINDS, KvGroup
from kvsim.plan.vllm_defaults import is_since
from kvsim.spec import InstanceSpec, ModelSpec

CHUNKS_SINCE = (0, 14)
MOST_GROUPS = 64
"""No model has more."""
MOST_TOKENS = 1_000_000_000
SIZED = {"window": 2, "chunk": 1}
"""Kinds that have a size, and the least."""


def is_hybrid(config: Config, model: ModelSpec) -> bool:
    """Whether vLLM's hybrid KV cache manager is on: where nothing is said, for layers with chunks since vLLM 0.14; it
    was taken for slow before (``VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE``). Not beside drafts, whose blocks
    behind a window are not modelled."""
    if config.engine.speculative.method is not None:
        return False
    if model.sliding_window_tokens and model.num_window_layers == model.attention_layers:
        return True  # their one group stays, whatever is said
    is_off = config.engine.disable_hybrid_kv_cache_manager
    if is_off is None:
        return not model.window_is_chunk or is_since(config.engine.vllm_version, CHUNKS_SINCE)
    return not is_off


def kv_groups_of(config: Config, spec: InstanceSpec) -> tuple[KvGroup, ...]:
    """Groups of an instance's layers, those with a window first, as in the models whose first layer has one; none in a
    radix tree, and where all layers keep every token."""
    groups = spec.kv_groups
    if groups is None or config.cache.prefix_cache != "paged":
        return ()
    windowed = KvGroup("chunk" if groups.is_chunk else "window", groups.window_tokens)
    return (windowed,) * groups.windowed + (KvGroup("full"),) * groups.full


def recorded_kv_groups(recorded: Fields) -> tuple[KvGroup, ...]:
    """Groups of a recorded scheduler. Raises ``ConfigError`` on kinds that are not known, and on senseless sizes."""
    given = recorded.get("kv_groups")
    if given is None:
        return ()
    if not isinstance(given, list) or not 0 < len(given) <= MOST_GROUPS:
        raise recorded.error("kv_groups", f"must be a list of 1 to {MOST_GROUPS} groups")
    return tuple(_group(Fields("", group, f"config.kv_groups.{place}.")) for place, group in enumerate(given))


def _group(group: Fields) -> KvGroup:
    kind = group.choice("kind", KV_GROUP_KINDS, "full")
    tokens = group.whole("tokens", least=SIZED[kind], most=MOST_TOKENS) if kind in SIZED else 0
    return KvGroup(kind, tokens)
