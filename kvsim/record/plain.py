"""From typed figures to what JSON can say: a dataclass is an object with its fields, in their order, as keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

_OMITTED, _SPLICED, _WRITTEN = "kvsim.omitted", "kvsim.spliced", "kvsim.written"
OMITTED = {_OMITTED: True}
"""Metadata of a field that is no key where it is ``None``; others are ``null`` then."""


def spliced(*keys: str) -> dict[str, tuple[str, ...]]:
    """Metadata of a field, a dataclass whose own fields stand in its place: ``keys`` of them in this order, or all."""
    return {_SPLICED: keys}


def written(by: Callable[[Any], object]) -> dict[str, Callable[[Any], object]]:
    """Metadata of a field that stands as what ``by`` makes of it."""
    return {_WRITTEN: by}


def known(value: float) -> float | None:
    """``None`` for what was not measured: ``nan`` and infinities."""
    return value if math.isfinite(value) else None


def plain(value: object) -> Any:
    """``value`` as JSON has it: numpy scalars and arrays unwrapped, ``nan`` and infinities ``None``, else ``str``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(member) for name, member in _members(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return known(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _members(value: Any) -> Iterator[tuple[str, object]]:
    for each in fields(value):
        member = getattr(value, each.name)
        if _WRITTEN in each.metadata:
            member = each.metadata[_WRITTEN](member)
        if _SPLICED in each.metadata:
            inner = dict(_members(member))
            for key in each.metadata[_SPLICED] or inner:
                yield key, inner[key]
        elif member is not None or _OMITTED not in each.metadata:
            yield each.name, member
