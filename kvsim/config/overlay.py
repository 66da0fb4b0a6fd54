"""Calibration profiles: overlays with where their numbers come from and how far they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvsim.config.layer import Layer, make_layer
from kvsim.config.schema import Config
from kvsim.config.yaml_source import kind, named, parse_trusted, read_mapping, shown
from kvsim.content import content_path
from kvsim.errors import ConfigError, nearest
from kvsim.spec import known_gpu, known_model, model_file

SECTIONS = ("hardware", "cache", "cluster", "pd_separation", "steptime")
"""What an overlay may change, at its top or under ``overrides:``."""

METADATA = ("name", "description", "sources", "provenance", "validity", "fit_error")


@dataclass(frozen=True)
class Overlay:
    """A profile as read: what it says of itself, and the layer it makes."""

    path: Path
    metadata: dict[str, Any]
    """``METADATA`` keys that the file gives; ``name`` always, else the file's stem."""
    layer: Layer


def read_overlay(profile: Path) -> Overlay:
    """The overlay in the file ``profile``, or the shipped profile of that name. Raises ``ConfigError``."""
    path = _find(profile)
    tree = read_mapping(path)
    metadata = {"name": path.stem, **{key: tree[key] for key in METADATA if key in tree}}
    for key in ("name", "description"):
        if key in metadata and not isinstance(metadata[key], str):
            raise ConfigError(f"{named(path)}: {key} = {shown(metadata[key])}: must be text, not {kind(metadata[key])}")
    changes = {key: value for key, value in tree.items() if key not in METADATA}
    layer = make_layer(named(path), _overrides(changes, path), SECTIONS)
    _find_operators(layer, path)
    return Overlay(path, metadata, layer)


def _find_operators(layer: Layer, path: Path) -> None:
    """A profile names its file of operator times as it stands beside it."""
    steptime = layer.tree.get("steptime")
    operators = steptime.get("operators") if isinstance(steptime, dict) else None
    if isinstance(steptime, dict) and isinstance(operators, str) and not Path(operators).is_absolute():
        steptime["operators"] = str(path.resolve().parent / operators)


def _overrides(changes: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """The sections, bare or under ``overrides:``."""
    if "overrides" not in changes:
        for key in changes:
            if key not in SECTIONS:
                known = nearest(str(key), (*SECTIONS, *METADATA, "overrides"))
                raise ConfigError(f"{named(path)}: {shown(str(key))} is no section of a profile; {known}")
        return changes
    bare = [key for key in changes if key != "overrides"]
    if bare:
        raise ConfigError(f"{named(path)}: {shown(str(bare[0]))} stands beside 'overrides'; put every section under it")
    overrides = changes["overrides"]
    if overrides is None:
        return {}
    if not isinstance(overrides, dict):
        raise ConfigError(f"{named(path)}: overrides holds {kind(overrides)}; a mapping of sections is wanted")
    return overrides


def read_shipped(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a shipped profile says of itself, and the sections it changes; read fast, and not checked."""
    tree = parse_trusted(content_path("profiles", f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: tree[key] for key in METADATA if key in tree}, tree.get("overrides") or {}


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with kvsim."""
    return sorted(path.stem for path in content_path("profiles").glob("*.yaml"))


def _find(profile: Path) -> Path:
    if profile.exists() or len(profile.parts) != 1:
        return profile
    name = profile.stem if profile.suffix in (".yaml", ".yml") else profile.name
    if name in shipped_profiles():
        return content_path("profiles", f"{name}.yaml")
    if profile.suffix:
        return profile
    near = nearest(name, shipped_profiles())
    near = near if near.startswith("did") else "'kvsim profiles' lists those that come with kvsim"
    raise ConfigError(f"unknown calibration profile {shown(name)}; {near}")


def mismatches(metadata: dict[str, Any], config: Config) -> list[str]:
    """Where ``config`` lies outside what the profile's ``validity`` names, one sentence each."""
    validity = metadata.get("validity")
    if not isinstance(validity, dict):
        return []
    used = {
        "model": known_model(config.model.name) or config.model.name,
        "gpu": known_gpu(config.hardware.gpu) or config.hardware.gpu,
        "tensor_parallel_size": config.engine.tensor_parallel_size,
        "weight_dtype": config.model.weight_dtype,
        "kv_dtype": config.model.kv_dtype,
    }
    sentences = []
    for key, value in used.items():
        valid = validity.get(key, value)
        if key == "model" and model_file(str(value)) is not None:
            continue  # a file of its own; its shapes are taken from there
        if value not in (valid if isinstance(valid, list) else [valid]):
            sentences.append(f"profile {metadata['name']} holds for {key} {_words(valid)}; this run has {value}")
    return sentences + outside_validity(metadata["name"], validity, config)


def outside_validity(name: str, validity: object, config: Config) -> list[str]:
    """Steps that the engine may run and that the profile ``name`` was not measured for, one sentence each."""
    if not isinstance(validity, dict):
        return []
    most = {
        "tokens_per_step": ("engine.max_num_batched_tokens", config.engine.max_num_batched_tokens),
        "decodes_per_step": ("engine.max_num_seqs", config.engine.max_num_seqs),
    }
    sentences = []
    for key, (setting, value) in most.items():
        valid = validity.get(key)
        if isinstance(valid, list) and len(valid) == 2 and isinstance(valid[1], int | float) and value > valid[1] > 0:
            times = f"{value / valid[1]:.1f} times"
            sentences.append(f"profile {name} was measured up to {valid[1]:,} {key}; {setting} is {times} that")
    return sentences


def _words(valid: object) -> str:
    return " or ".join(map(str, valid)) if isinstance(valid, list) else str(valid)
