"""Policy bundles: a name for an eviction, a prefetch, an admission, a routing and a scheduling policy together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kvsim.content import content_path
from kvsim.errors import ConfigError, nearest

KEYS = {
    "eviction": "policies.eviction",
    "prefetch": "policies.prefetch",
    "admission": "policies.admission",
    "learned_model": "policies.learned_model",
    "routing": "routing.prefill",
    "scheduling": "engine.scheduling_policy",
}
"""What a bundle may say, and the setting that it is."""


@dataclass(frozen=True)
class Bundle:
    """What ``--policy`` compares."""

    name: str
    description: str
    sets: tuple[str, ...]
    """``key=value`` each, over everything else."""


def find_bundles(names: Sequence[str], evictions: Sequence[str]) -> list[Bundle]:
    """Bundles by name; the name of an eviction policy, or a ``package.module:Class``, is a bundle of that alone.

    Raises ``ConfigError`` for a name that is neither, with the nearest, and for one that is given twice.
    """
    shipped = shipped_bundles()
    found = []
    for name in names:
        if name in shipped:
            found.append(shipped[name])
        elif name in evictions or ":" in name:
            found.append(Bundle(name, f"eviction {name}", (f"policies.eviction={json.dumps(name)}",)))
        else:
            raise ConfigError(f"--policy: unknown policy '{name}'; {nearest(name, {*shipped, *evictions})}")
        if names.count(name) > 1:
            raise ConfigError(f"--policy: '{name}' is given twice")
    return found


def shipped_bundles() -> dict[str, Bundle]:
    """Bundles of ``policies/``, by name in the order of their files' ``rank``."""
    ranked = []
    for path in sorted(content_path("policies").glob("*.yaml")):
        rank, bundle = _read(path)
        ranked.append((rank, bundle))
    return {bundle.name: bundle for _, bundle in sorted(ranked, key=lambda pair: (pair[0], pair[1].name))}


def _read(path: Path) -> tuple[int, Bundle]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name}: not readable as a bundle: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path.name}: a mapping is wanted, with {', '.join(KEYS)}")
    values: dict[str, Any] = dict(tree)
    rank, description = values.pop("rank", 1000), values.pop("description", "")
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{path.name}: unknown key '{key}'; {nearest(str(key), KEYS)}")
    sets = tuple(f"{KEYS[key]}={json.dumps(value)}" for key, value in values.items())
    if values.get("admission", "selective_write") != "selective_write":
        sets = (*sets, "policies.selective_write=false")
    return rank, Bundle(path.stem, str(description), sets)
