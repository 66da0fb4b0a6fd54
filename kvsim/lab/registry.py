"""The labs of the course, by name."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from kvsim.errors import ConfigError, nearest
from kvsim.lab import course
from kvsim.lab.lab import Lab


@cache
def names() -> tuple[str, ...]:
    """``w01`` to the last, in the order of the course."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(course.__path__)))


def find(name: str, verbs: Sequence[str] = ()) -> Lab[Any]:
    """Raises ``ConfigError`` for an unknown name, with the nearest, which may be one of ``verbs`` that stand beside."""
    if name not in names():
        digits = name.lstrip("wW")
        numbered = f"w{int(digits):02}" if digits.isascii() and digits.isdigit() else ""
        close = f"did you mean '{numbered}'?" if numbered in names() else nearest(name, (*names(), *verbs))
        raise ConfigError(f"there is no lab '{name}'; {close}")
    found: Lab[Any] = import_module(f"{course.__name__}.{name}").LAB
    return found
