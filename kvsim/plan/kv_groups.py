"""The groups of layers that an engine's hybrid KV cache manager has."""

from __future__ import annotations

from kvsim.fields import Fields
from kvsim.plan.engine_settings import KV_GROUP_KINDS, KvGroup

MOST_GROUPS = 64
"""No model has more."""
MOST_TOKENS = 1_000_000_000
SIZED = {"window": 2, "chunk": 1}
"""Kinds that have a size, and the least."""


def recorded_kv_groups(recorded: Fields) -> tuple[KvGroup, ...]:
    """Those of a recorded scheduler. Raises ``ConfigError`` on kinds that are not known, and on sizes without sense."""
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
