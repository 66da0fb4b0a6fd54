"""What the single node and ``--cluster`` compare: policies, or the rack's pool on and off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvsim.config import Config, Given, LoadedConfig, load_config
from kvsim.config.bundles import find_bundles
from kvsim.config.load import Several, load_several, set_values, stated
from kvsim.errors import ConfigError
from kvsim.launch import LaunchLine
from kvsim.modes.experiment import Variant, pd_variants
from kvsim.plan.deployment import OF_SERVER, server_keys
from kvsim.plan.mode import Mode, ModeName
from kvsim.policy.eviction import EVICTIONS
from kvsim.sim.run import SYSTEMS
from kvsim.spec.tier_kinds import EIC

PD_RATIO = "pd_separation.pd_ratio"
SINGLE_POLICIES = ("baseline", "arc", "session_prefetch", "selective_write", "learned", "hybrid", "belady")
"""Bundles that the single node compares unless others are named."""


@dataclass(frozen=True)
class Layers:
    """What a configuration is made of, each laid over those before it."""

    config: Path | Mapping[str, Any] | Config | None = None
    profile: Path | None = None
    preset: str | None = None
    engine: Given | None = None
    sets: tuple[str, ...] = ()
    model: str | None = None
    """Which of several models the configuration is of."""

    @property
    def describes_server(self) -> bool:
        """Whether a server's command line or a number of GPUs is given."""
        given = () if self.engine is None else self.engine.values
        return "model.name" in given or "cluster.total_gpus" in given

    def balances(self, mode: Mode, loaded: LoadedConfig, systems: Sequence[str]) -> bool:
        """Whether the P:D ratio is to be the balanced one: a server was described, and nobody said a ratio."""
        return mode.is_pd and "pd" in systems and self.describes_server and PD_RATIO not in loaded.chosen

    def with_server(
        self, mode: ModeName, launch: LaunchLine | None, gpu: str | None, gpus: int | None, tensor_parallel: int | None
    ) -> Layers:
        """With what a command line and short forms say. Raises ``ConfigError``."""
        keys = server_keys(
            mode,
            launch,
            gpu=gpu,
            gpus=gpus,
            tensor_parallel=tensor_parallel,
            below=stated(OF_SERVER, self.config, self.profile, self.preset),
            sets=self.sets,
        )
        return replace(self, engine=keys)

    def load(self, mode: ModeName, *more: str) -> LoadedConfig:
        """The configuration for ``mode``, with further assignments. Raises ``ConfigError``."""
        sets = (*self.sets, *more)
        return load_config(self.config, self.profile, self.preset, sets, mode, self.engine, self.model)

    def several(self) -> Several | None:
        """The models of a cluster of several; ``None``: there is one. Raises ``ConfigError``."""
        return load_several(self.config, self.profile, self.preset, self.sets)


def variants_of(
    mode: Mode, loaded: LoadedConfig, layers: Layers, systems: Sequence[str] = SYSTEMS, policy: str | None = None
) -> list[Variant]:
    """What a mode compares: ``systems`` in ``--pd``, else what :func:`policy_variants` says."""
    return pd_variants(loaded.config, systems) if mode.is_pd else policy_variants(mode, loaded, policy, layers)


def policy_variants(mode: Mode, loaded: LoadedConfig, policy: str | None, layers: Layers) -> list[Variant]:
    """One for each of the bundles named in ``policy``, separated by commas; without, those of the mode.

    Raises ``ConfigError`` for an unknown bundle, and for one that sets what an assignment sets otherwise.
    """
    if policy is None and mode.name == "cluster":
        return _pool_on_and_off(loaded)
    names = SINGLE_POLICIES if policy is None else tuple(name.strip() for name in policy.split(","))
    variants = []
    if policy is None and loaded.config.policies != load_config().config.policies:
        variants.append(Variant("configured", "unified", loaded.config))
    given = {} if policy is None else set_values(layers.sets)
    for bundle in find_bundles(names, list(EVICTIONS)):
        for key, value in set_values(bundle.sets).items():
            if given.get(key, value) != value:
                set_, asked = (f"{key}={json.dumps(found)}" for found in (value, given[key]))
                raise ConfigError(f"--policy {bundle.name} sets {set_}: --set {asked} would go unused")
        own = layers.load(mode.name, *bundle.sets)
        variants.append(Variant(bundle.name, "unified", own.config))
    return variants


def _pool_on_and_off(loaded: LoadedConfig) -> list[Variant]:
    config = loaded.config
    cluster, tiers = config.cluster, config.cluster.tiers
    if EIC.name not in tiers:
        return [Variant("configured", "unified", config)]
    without = cluster.model_copy(update={"tiers": tuple(name for name in tiers if name != EIC.name)})
    off = config.model_copy(update={"cluster": without})
    return [Variant("eic on", "unified", config), Variant("eic off", "unified", off)]
