"""The layers that make a configuration, from ``config.yaml`` up to ``--set``: their keys, their order, who set what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from kvsim.config.kvcache_sim_compat import own_spelling
from kvsim.config.schema import Config
from kvsim.config.section import Section
from kvsim.config.tree import Tree, has
from kvsim.config.yaml_source import kind, shown
from kvsim.errors import ConfigError, nearest


@dataclass(frozen=True)
class Layer:
    """Part of a configuration: known keys in kvsim's own spelling, values as yet unchecked."""

    where: str
    """Begins the message of an error: a file, ``--preset NAME``, ``--set``."""
    tree: Tree
    respelled: tuple[str, ...] = ()
    is_default: bool = False
    """Shipped, or a preset: nobody chose its single values."""


def make_layer(where: str, tree: dict[Any, Any], sections: Iterable[str] | None = None) -> Layer:
    """The layer that ``tree`` makes. Raises ``ConfigError`` for unknown keys, and for sections that are no mappings.

    ``sections`` narrows what may stand at the top. An empty section (``engine:`` with every key commented out) changes
    nothing.
    """
    own, respelled = own_spelling(tree, where)
    fields = Config.model_fields
    known = {name: fields[name] for name in sections} if sections is not None else fields
    return Layer(where, _known_keys(own, known, where, ""), tuple(respelled))


def _known_keys(tree: dict[Any, Any], fields: Mapping[str, FieldInfo], where: str, parent: str) -> Tree:
    clean: Tree = {}
    for key, value in tree.items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {_unknown(parent, key, fields)}")
        section, path = _section_in(fields[key]), f"{parent}.{key}" if parent else key
        if section is None or (value is None and type(None) in get_args(fields[key].annotation)):
            clean[key] = value
        elif isinstance(value, dict):
            clean[key] = _known_keys(value, section.model_fields, where, path)
        elif value is not None:
            raise ConfigError(f"{where}: {path} = {shown(value)}: must be a mapping, not {kind(value)}")
    return clean


def _section_in(field: FieldInfo) -> type[Section] | None:
    """The schema of a field that is itself a section, nullable or not; a list of some is a value."""
    if get_origin(field.annotation) is tuple:
        return None
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _unknown(parent: str, key: object, known: Iterable[str]) -> str:
    path = f"{parent}.{key}" if parent else f"{key}"
    elsewhere = [full for full in all_keys(Config) if full.rpartition(".")[2] == str(key)]
    hint = f"did you mean '{elsewhere[0]}'?" if elsewhere else nearest(str(key), known)
    return f"{shown(path)}; {hint}"


def all_keys(section: type[Section], parent: str = "") -> Iterator[str]:
    """The dotted path of every key that holds a value, in the schema's order."""
    for name, field in section.model_fields.items():
        inner = _section_in(field)
        path = f"{parent}.{name}" if parent else name
        if inner is None:
            yield path
        else:
            yield from all_keys(inner, path)


def keys_at(loc: Sequence[int | str]) -> tuple[str, ...]:
    """The keys of the section at a place in a configuration; a number is one entry of a list."""
    section: type[Section] = Config
    for part in loc:
        if isinstance(part, str):
            found = _entry_in(section.model_fields[part].annotation)
            section = section if found is None else found
    return tuple(section.model_fields)


def _entry_in(annotation: Any) -> type[Section] | None:
    """The section that an annotation is, or is a list of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for each in get_args(annotation) if (found := _entry_in(each)) is not None), None)


def origin(layers: Sequence[Layer], *paths: str) -> str:
    """Who last set one of ``paths``, or else what holds them: begins an error's message."""
    while paths:
        for layer in reversed(layers):
            if any(has(layer.tree, path) for path in paths):
                return layer.where
        paths = tuple(path.rpartition(".")[0] for path in paths if "." in path)
    return layers[0].where


@dataclass(frozen=True)
class Origins:
    """Who set what, for messages on keys that do not go together."""

    layers: Sequence[Layer]

    def is_chosen(self, *paths: str) -> bool:
        """Whether somebody set one of them: not ``config.yaml``, and no preset."""
        return any(has(layer.tree, path) for layer in self.layers if not layer.is_default for path in paths)

    def blamed(self, *paths: str) -> tuple[str, str]:
        """Who last chose one of ``paths``, and which one that is; the first where nobody chose any.

        A default that contradicts what somebody chose is never at fault.
        """
        for layer in reversed(self.layers):
            for path in paths:
                if not layer.is_default and has(layer.tree, path):
                    return layer.where, path
        return origin(self.layers, *paths), paths[0]
