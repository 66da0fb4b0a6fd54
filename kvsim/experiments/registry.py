"""Which studies stand alone, by name."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any

from kvsim.errors import ConfigError, nearest
from kvsim.experiments import catalogue
from kvsim.experiments.standalone import StandaloneStudy

RUN_ALL = "run_all"
"""Stands for every one of them."""


@cache
def names() -> tuple[str, ...]:
    """Names of all studies, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(catalogue.__path__)))


def find(name: str) -> StandaloneStudy[Any]:
    """Raises ``ConfigError`` for an unknown name, with the nearest."""
    if name not in names():
        raise ConfigError(f"there is no study '{name}'; {nearest(name, [*names(), RUN_ALL])}")
    found: StandaloneStudy[Any] = import_module(f"{catalogue.__name__}.{name}").STUDY
    return found
