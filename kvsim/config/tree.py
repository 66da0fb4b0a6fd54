"""Configurations as plain mappings, and their values by dotted key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

Tree = dict[str, Any]


def dump(config: BaseModel) -> Tree:
    """The whole configuration as plain mappings, lists and scalars, ready for JSON."""
    return config.model_dump(mode="json")


def leaves(tree: Tree, parent: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in ``tree`` behind its dotted path; an empty mapping has none."""
    for key, value in tree.items():
        path = f"{parent}.{key}" if parent else key
        if isinstance(value, dict):
            yield from leaves(value, path)
        else:
            yield path, value


def merged(below: Tree, above: Tree) -> Tree:
    """``below`` overlaid by ``above``: mappings merge key by key, everything else (lists too) is replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def get(tree: Tree, path: str) -> Any:
    """The value at a dotted path; ``KeyError`` where there is none."""
    value: Any = tree
    for key in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(path)
        value = value[key]
    return value


def has(tree: Tree, path: str) -> bool:
    """Whether ``tree`` says anything at a dotted path."""
    try:
        get(tree, path)
    except KeyError:
        return False
    return True


def put(tree: Tree, path: str, value: Any) -> Tree:
    """``tree`` with ``value`` at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return merged(tree, value)
