"""Policies of every kind by name: those that kvsim has, and classes of a user's own as ``package.module:Class``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from types import ModuleType
from typing import Any, TypeVar, cast

from kvsim.errors import ConfigError, nearest

Policy = TypeVar("Policy")


class Policies(Mapping[str, Policy]):
    """All of one kind that kvsim has, by name. A user's own class can be found too where the kind has a ``base``."""

    def __init__(self, key: str, known: Mapping[str, Policy], base: type | None = None, kind: str = "") -> None:
        """``key``: the setting that names one. ``kind``: what errors call it, by default as the key."""
        self._key, self._known, self._base, self._kind = key, dict(known), base, kind or key

    def __getitem__(self, name: str) -> Policy:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str) -> Policy:
        """What ``name`` means.

        ``package.module:Class`` is imported, from the working directory too. Raises ``ConfigError`` for an unknown
        name, with the nearest; for a module or a class that is not there; and for one that is no ``base``, or only part
        of one.
        """
        if self._base is not None and is_own(name):
            return cast(Policy, _imported(self._kind, name, self._base))
        if name not in self._known:
            raise ConfigError(f"{self._kind}: unknown policy '{name}'; {nearest(name, self._known)}")
        return self._known[name]

    def check(self, config: object) -> None:
        """Raises ``ConfigError`` where ``config`` names one that cannot be found."""
        self.find(cast(str, reduce(getattr, self._key.split("."), cast(Any, config))))


def is_own(name: str) -> bool:
    """Whether this is a class of a user's own, which is not to be trusted."""
    return ":" in name


def described(error: BaseException) -> str:
    """An exception of a user's own code in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _imported(kind: str, name: str, base: type) -> type:
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise ConfigError(f"{kind}: '{name}' names no class; allowed: package.module:Class")
    module = _module(f"{kind} '{name}'", module_name)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [each for each, value in vars(module).items() if isinstance(value, type)]
        advice = nearest(class_name, classes) if classes else "it has no classes"
        raise ConfigError(f"{kind} '{name}': no '{class_name}' in {module_name}; {advice}")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{kind} '{name}': not a subclass of {base.__module__}.{base.__qualname__}")
    if inspect.isabstract(found):
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        raise ConfigError(f"{kind} '{name}': methods are missing: {', '.join(missing)}")
    return found


def _module(what: str, name: str) -> ModuleType:
    try:
        with _from_here():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{what}: no module '{name}' installed or in {os.getcwd()!r}") from None
        raise ConfigError(f"{what}: cannot import {name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ConfigError(f"{what}: cannot import {name}: {described(error)}") from error


@contextmanager
def _from_here() -> Iterator[None]:
    """Imports look in the working directory too, after everything else, as the console script does not by itself."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
