"""Policies by name: those of a registry, and classes of a user's own as ``package.module:Class``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar, cast

from kvsim.errors import ConfigError, nearest
from kvsim.policy.checked_policy import described

Policy = TypeVar("Policy")


def is_own(name: str) -> bool:
    """Whether this is a class of a user's own, which is not to be trusted."""
    return ":" in name


def find_class(kind: str, name: str, known: Mapping[str, type[Policy]], base: type) -> type[Policy]:
    """The class that ``name`` means. ``kind`` says in errors what is looked for.

    ``package.module:Class`` is imported, from the working directory too. Raises ``ConfigError`` for an unknown name,
    with the nearest; for a module or a class that is not there; and for one that is no ``base``, or only part of one.
    """
    if is_own(name):
        return cast(type[Policy], _imported(kind, name, base))
    if name not in known:
        raise ConfigError(f"{kind}: unknown policy '{name}'; {nearest(name, known)}")
    return known[name]


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
