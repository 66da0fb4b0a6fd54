"""A user's own classes are called with care: whatever goes wrong in them is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kvsim.errors import ConfigError, KvsimError

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Guard:
    """Says which policy it was."""

    def __init__(self, kind: str, name: str) -> None:
        """``kind``: eviction, admission or prefetch. ``name``: ``package.module:Class``."""
        self._whose = f"{kind} '{name}'"

    def call(self, method: str, function: Callable[Given, Result], *args: Given.args, **named: Given.kwargs) -> Result:
        """What ``function`` returns. Raises ``ConfigError`` for what it raises, unless that is an error of kvsim's."""
        try:
            return function(*args, **named)
        except KvsimError:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's class raises
            raise self.error(f"{method} raised {described(error)}") from error

    def error(self, words: str) -> ConfigError:
        """To be raised."""
        return ConfigError(f"{self._whose}: {words}")


def described(error: BaseException) -> str:
    """An exception in one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def shown(value: object) -> str:
    """What a method returned, in one line, whatever it is."""
    return repr(value) if value is None or isinstance(value, bool | int | float) else f"a {type(value).__name__}"
