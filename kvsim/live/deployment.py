"""The deployment that a server is taken for: by its own words, by a pasted line, or by both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvsim.config import LoadedConfig
from kvsim.config.load import set_values
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch import LaunchLine
from kvsim.live.server import Told
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import Plan, unified_plan
from kvsim.spec import find_gpu, find_model
from kvsim.validate.front_end import front_end_s

FRONT_END = "front_end_ms"
"""What a profile made here has in its ``provenance`` beside the step times."""


@dataclass(frozen=True)
class Described:
    """What was said of a server, and by whom."""

    model: str
    version: str
    arguments: dict[str, object]
    sources: tuple[str, ...]
    gpu: str | None = None
    profile: Path | None = None
    sets: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def knows_machine(self) -> bool:
        """Whether anybody said what its step times are like."""
        return self.profile is not None or self.gpu is not None or "hardware.gpu" in set_values(self.sets)

    def load(self, keys: Mapping[str, Any] | None = None) -> LoadedConfig:
        """The server's configuration, with further ``keys``. Raises ``ConfigError``."""
        known = None if self.gpu is None else find_gpu(self.gpu)
        return load_instance(
            self.model,
            Fields("", dict(self.arguments)),
            vllm_version=self.version,
            profile=self.profile,
            keys={"load.warm_caches": False} | dict(keys or {}),
            sets=self.sets,
            gpu=known if self.profile is None else None,
            where="the server's arguments",
        )


def described(
    told: Told | None,
    line: LaunchLine | None,
    model: str | None,
    *,
    gpu: str | None,
    profile: Path | None,
    sets: tuple[str, ...],
    version: str = "",
) -> Described:
    """Put together what is known. ``model`` before the line's before the server's own; likewise arguments.

    Raises ``ConfigError`` where the model is nowhere said, or not known to kvsim.
    """
    arguments: dict[str, object] = {}
    sources: list[str] = []
    if told is not None:
        arguments |= told.arguments
        sources += told.sources
    if line is not None:
        # How many blocks there are follows from what the line says only where the server does not say it.
        arguments |= line.arguments
        sources.append("the line")
    name = model or (line.model if line is not None else None) or _model_of(told)
    version = version or (line.version if line is not None else "") or (told.version if told is not None else "")
    warnings = line.warnings if line is not None else ()
    if told is not None:
        warnings = (*warnings, *(told.warnings if line is None else ()))
        gpu = gpu if gpu is not None or profile is not None else told.gpu
    return Described(_known(name, told), version, arguments, tuple(sources), gpu, profile, sets, warnings)


def _model_of(told: Told | None) -> str | None:
    if told is None:
        return None
    return next((name for name in (told.root, told.model) if _is_known(name)), told.root)


def _is_known(name: str) -> bool:
    try:
        find_model(name)
    except ConfigError:
        return False
    return True


def _known(name: str | None, told: Told | None) -> str:
    if name is None:
        raise ConfigError("which model is served is nowhere said: give --model-config, --line or --url")
    if told is not None and name in (told.root, told.model) and not _is_known(name):
        raise ConfigError(
            f"the server's model {name!r:.80} is none that kvsim knows: give its config.json by --model-config, "
            "or the name of one of `kvsim models` that is like it"
        )
    find_model(name)
    return name


@dataclass(frozen=True)
class Deployment:
    """One server as it is simulated."""

    described: Described
    loaded: LoadedConfig
    plan: Plan

    @property
    def front_end_s(self) -> float:
        """Seconds of a request outside the engine: as the profile says that was made of such a measurement, else as of
        any server of its version."""
        said = self.loaded.provenance.provenance
        value = said.get(FRONT_END) if isinstance(said, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            return float(value) / 1e3
        return front_end_s(self.described.version)

    @property
    def step_times(self) -> str:
        """How they are known, in words."""
        nearest = self.plan.colocated.nearest
        if nearest is None:
            return f"profile {self.loaded.provenance.name}" if self.loaded.provenance.name else "step times as set"
        if nearest.name is None:
            return "step times of data sheets"
        return f"profile {nearest.name}" if nearest.level == "measured" else f"step times scaled from {nearest.name}"


def deployment_of(found: Described, keys: Mapping[str, Any] | None = None) -> Deployment:
    """Raises ``ConfigError`` or ``CapacityError`` where it cannot be built."""
    loaded = found.load(keys)
    config = loaded.config
    plan = unified_plan(config, config.engine.data_parallel_size, config.pd_separation.tiers)
    return Deployment(found, loaded, plan)
