"""Putting a configuration together: config.yaml < --config < --calibration-profile < --preset < --set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kvsim.config.checks import Mode, check
from kvsim.config.findings import explained
from kvsim.config.kvcache_sim_compat import overlaid
from kvsim.config.layer import Layer, Origins, make_layer
from kvsim.config.models_keys import ModelItem
from kvsim.config.overlay import Overlay, mismatches, read_overlay
from kvsim.config.preset import find_preset, preset_layers
from kvsim.config.schema import Config
from kvsim.config.several import items_of, of_model, seed_of
from kvsim.config.tree import Tree, dump, leaves, merged, put
from kvsim.config.yaml_source import named, parse, read_mapping, shown
from kvsim.config.yielding import yielded
from kvsim.content import content_path
from kvsim.errors import ConfigError

NO_PROFILE = "none"
"""The name that stands for no profile."""


@dataclass(frozen=True)
class Provenance:
    """Where a configuration comes from. The first seven are the calibration profile's; None without one."""

    name: str | None
    description: str | None
    sources: Any
    provenance: Any
    validity: Any
    fit_error: Any
    path: Path | None
    preset: str | None
    notes: tuple[str, ...]
    """Sentences for the reader: keys read in another spelling, older values that a twin of theirs replaced."""
    warnings: tuple[str, ...]
    """Sentences on where the run leaves the profile's validity."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, resolved and checked, and where it comes from."""

    config: Config
    provenance: Provenance
    chosen: frozenset[str] = field(compare=False)
    """Dotted keys that somebody set: neither ``config.yaml`` nor a preset."""


@dataclass(frozen=True)
class Given:
    """Values by dotted key, in kvsim's own spelling, that stand for somebody's own words."""

    where: str
    """Begins the message of an error."""
    values: Mapping[str, Any]

    def layer(self) -> Layer:
        tree = Tree()
        for key, value in self.values.items():
            tree = put(tree, key, value)
        return Layer(self.where, tree)


def load_config(
    config: Path | Mapping[str, Any] | Config | None = None,
    overlay: Path | None = None,
    preset: str | None = None,
    sets: Sequence[str] = (),
    mode: Mode | None = None,
    engine: Given | None = None,
    model: str | None = None,
) -> LoadedConfig:
    """The configuration that these sources make, each merged over those before it; ``sets`` come last.

    ``config``: a file, or what would stand in one, as a mapping or whole. ``overlay``: a file, the name of a shipped
    profile, or ``none``, step times of no measurement. ``sets`` are ``a.b=value`` with the value in YAML. ``mode``:
    what it is for; keys that have no use there need not agree with others. ``model``: that of the item of ``models``
    called so, with the seed that follows from the run's and that name; without it several models are refused. Defaults
    that cannot go with what somebody chose give way, and the notes say so. Raises ``ConfigError``, one line that names
    the source, the key, its value, what is allowed or the nearest known name.
    """
    layers, profile = _layers(config, overlay, preset, sets, engine)
    layers = of_model(layers, model)
    tree, notes = _stacked(layers)
    if model is not None and isinstance(tree["seed"], int) and tree["seed"] >= 0:
        tree = put(tree, "seed", seed_of(tree["seed"], model))
    tree, given_way = yielded(tree, Origins(layers), mode)
    notes += given_way
    resolved = _validated(tree, layers, mode)
    chosen = frozenset(key for layer in layers if not layer.is_default for key, _ in leaves(layer.tree))
    return LoadedConfig(resolved, _provenance(profile, preset, notes, resolved), chosen)


@dataclass(frozen=True)
class Several:
    """A cluster of several models."""

    items: tuple[ModelItem, ...]
    common: Config
    """What all have in common, which nothing runs: its keys are in range, and need not agree."""


def load_several(
    config: Path | Mapping[str, Any] | Config | None = None,
    overlay: Path | None = None,
    preset: str | None = None,
    sets: Sequence[str] = (),
) -> Several | None:
    """The models that these sources describe, as of :func:`load_config`; ``None``: one alone."""
    # Neither profiles nor presets have models: without any, they need not be read for this.
    items = items_of(_layers(config, None, None, sets, None)[0])
    if not items:
        return None
    layers, _ = _layers(config, overlay, preset, sets, None)
    tree, _ = _stacked(layers)
    try:
        return Several(items, Config.model_validate(tree))
    except ValidationError as invalid:
        raise explained(invalid, layers) from None


def _layers(
    config: Path | Mapping[str, Any] | Config | None,
    overlay: Path | None,
    preset: str | None,
    sets: Sequence[str],
    engine: Given | None,
) -> tuple[list[Layer], Overlay | None]:
    """The layers of :func:`load_config`, and the calibration profile that one of them is of."""
    layers, presets = _file_layers(config)
    if overlay is not None and str(overlay) == NO_PROFILE and not overlay.exists():
        overlay = None
        layers.insert(1, Layer("--calibration-profile none", {"steptime": {"method": "roofline"}}, is_default=True))
    profile = read_overlay(overlay) if overlay is not None else None
    if profile is not None:
        layers.append(profile.layer)
    if preset is not None:
        layers.append(find_preset(preset, presets))
    if engine is not None:
        layers.append(engine.layer())
    if sets:
        layers.append(_set_layer(sets))
    return layers, profile


def stated(
    keys: Sequence[str],
    config: Path | Mapping[str, Any] | Config | None = None,
    overlay: Path | None = None,
    preset: str | None = None,
) -> dict[str, Any]:
    """What these sources say of ``keys``, the last of them that does; nothing of those that no one but config.yaml
    has. Not checked. Raises ``ConfigError`` for a source that cannot be read."""
    layers, presets = _file_layers(config)
    if overlay is not None and (str(overlay) != NO_PROFILE or overlay.exists()):
        layers.append(read_overlay(overlay).layer)
    if preset is not None:
        layers.append(find_preset(preset, presets))
    said = {key: value for layer in layers if not layer.is_default for key, value in leaves(layer.tree)}
    return {key: said[key] for key in keys if said.get(key) is not None}


def set_values(sets: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, by ``section.key`` in kvsim's own spelling; a later one wins. Raises ``ConfigError``."""
    return dict(leaves(_set_layer(sets).tree))


def check_value(key: str, value: Any, where: str) -> None:
    """Raise ``ConfigError``, which begins with ``where``, for an unknown ``key``, and for a ``value`` that it can never
    have, whatever the others are.
    """
    layer = make_layer(where, put({}, key, value))
    try:
        Config.model_validate(merged(_shipped()[0].tree, layer.tree))
    except ValidationError as invalid:
        raise explained(invalid, (layer,)) from None


def changed(config: Config, values: Mapping[str, Any], where: str, mode: Mode | None = "pd") -> Config:
    """``config`` with other values at dotted keys, checked for ``mode``. Raises ``ConfigError``, which begins with
    ``where``.
    """
    tree, chosen = dump(config), Tree()
    for key, value in values.items():
        tree, chosen = put(tree, key, value), put(chosen, key, value)
    return _validated(tree, (Layer(where, {}, is_default=True), Layer(where, chosen)), mode)


def _file_layers(config: Path | Mapping[str, Any] | Config | None) -> tuple[list[Layer], dict[str, Layer]]:
    """The layers of ``config.yaml`` and ``--config``, and the presets in both; the latter's merge over the former's."""
    defaults, presets = _shipped()
    if config is None:
        return [defaults], presets
    if isinstance(config, Config | Mapping):
        given = dump(config) if isinstance(config, Config) else dict(config)
        own = preset_layers(given.pop("presets", None), "config")
        layer, own_presets = make_layer("config", given), own
    else:
        layer, own_presets = _read_file(config, named(config))
    presets = dict(presets)
    for name, preset in own_presets.items():
        below = presets[name].tree if name in presets else {}
        presets[name] = Layer(preset.where, merged(below, preset.tree))
    return [defaults, layer], presets


def preset_names(config: Path | None = None) -> tuple[str, ...]:
    """The presets of ``config.yaml`` and of ``config``. Raises ``ConfigError`` where the latter cannot be read."""
    return tuple(_file_layers(config)[1])


@cache
def _shipped() -> tuple[Layer, dict[str, Layer]]:
    defaults, presets = _read_file(content_path("config.yaml"), "config.yaml")
    return replace(defaults, is_default=True), presets


def _read_file(path: Path, where: str) -> tuple[Layer, dict[str, Layer]]:
    """One file's layer, and its presets by name."""
    tree = read_mapping(path)
    presets = preset_layers(tree.pop("presets", None), where)
    return make_layer(where, tree), presets


def _set_layer(sets: Sequence[str]) -> Layer:
    """All of ``--set`` as one layer; a later one wins."""
    tree: Tree = {}
    respelled: list[str] = []
    for assignment in sets:
        layer = make_layer("--set", _assignment(assignment))
        tree = merged(tree, layer.tree)
        respelled += layer.respelled
    return Layer("--set", tree, tuple(respelled))


def _assignment(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set: {shown(text)} is not of the form section.key=value")
    return put({}, path.strip(), parse(value, f"--set {shown(text)}"))


def _stacked(layers: Sequence[Layer]) -> tuple[Tree, list[str]]:
    tree: Tree = layers[0].tree
    notes: list[str] = []
    for layer in layers[1:]:
        tree, replaced = overlaid(tree, layer.tree, layer.where)
        if layer.respelled:
            notes.append(f"{layer.where}: keys of kvcache-sim read as kvsim's own: {', '.join(layer.respelled)}")
        notes += replaced
    return tree, notes


def _validated(tree: Tree, layers: Sequence[Layer], mode: Mode | None) -> Config:
    try:
        config = Config.model_validate(tree)
    except ValidationError as invalid:
        raise explained(invalid, layers) from None
    check(config, Origins(layers), mode)
    return config


def _provenance(profile: Overlay | None, preset: str | None, notes: Sequence[str], config: Config) -> Provenance:
    metadata = profile.metadata if profile is not None else {}
    return Provenance(
        name=metadata.get("name"),
        description=metadata.get("description"),
        sources=metadata.get("sources"),
        provenance=metadata.get("provenance"),
        validity=metadata.get("validity"),
        fit_error=metadata.get("fit_error"),
        path=profile.path if profile is not None else None,
        preset=preset,
        notes=tuple(notes),
        warnings=tuple(mismatches(metadata, config)),
    )
