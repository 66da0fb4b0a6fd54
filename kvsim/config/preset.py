"""Presets: they change how much is simulated, never what. They stand in ``config.yaml`` under ``presets``."""

from __future__ import annotations

from typing import Any

from kvsim.config.layer import Layer, make_layer
from kvsim.config.tree import leaves
from kvsim.config.yaml_source import kind, shown
from kvsim.errors import ConfigError, nearest

SCALE_KEYS = frozenset(
    {
        "cluster.simulate_racks",
        "cluster.simulate_gpus_per_rack",
        "trace.num_sessions",
        "cluster_trace.num_sessions",
        "pd_trace.num_requests",
        "pd_trace.num_sessions",
        "agent_trace.num_sessions",
        "experiments.num_requests",
        "experiments.warmup_requests",
        "cluster_experiments.num_requests",
        "cluster_experiments.warmup_requests",
        "pd_experiments.num_requests",
        "pd_experiments.warmup_requests",
        "load.pilot_requests",
        "load.pilot_gpus",
        "studies.instances",
        "studies.replications",
        "studies.most_replications",
        "studies.budget_requests",
        "studies.tier_budget_requests",
        "studies.max_requests",
        "studies.tier_max_requests",
        "studies.capacity_shares",
    }
)
"""What a preset may set."""


def preset_layers(presets: Any, where: str) -> dict[str, Layer]:
    """The presets of one file by name, each a layer. Raises ``ConfigError`` for keys that are no scale."""
    if presets is None:
        return {}
    if not isinstance(presets, dict):
        raise ConfigError(f"{where}: presets holds {kind(presets)}; a mapping of presets is wanted")
    layers = {}
    for name, tree in presets.items():
        here = f"{where}: preset {shown(str(name))}"
        if not isinstance(tree, dict):
            raise ConfigError(f"{here} holds {kind(tree)}; a mapping of sections is wanted")
        layers[str(name)] = make_layer(here, tree)
        for path, _ in leaves(layers[str(name)].tree):
            if path not in SCALE_KEYS:
                raise ConfigError(f"{here}: {shown(path)} is no scale; {nearest(path, SCALE_KEYS)}")
    return layers


def find_preset(name: str, presets: dict[str, Layer]) -> Layer:
    """The preset of that name. Raises ``ConfigError`` naming the nearest."""
    if name not in presets:
        raise ConfigError(f"--preset: unknown preset {shown(name)}; {nearest(name, presets)}")
    return Layer(f"--preset {name}", presets[name].tree, is_default=True)
