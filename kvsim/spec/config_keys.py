"""The keys of one ``config.json``, each checked when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError

MOST = 1 << 24
"""No size of a model is larger."""
FILE = "config.json"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises ``ConfigError``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no object; a model's {FILE} is wanted")
    return values


class ConfigKeys:
    """Keys and values, and where they stand, for messages."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def count(self, key: str, default: int | None = None, *, least: int = 1, most: int = MOST) -> int:
        """A whole number; ``default`` where it is missing, or ``ConfigError`` where there is none."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise ConfigError(f"{self.where}: no key '{key}'; a model's {FILE} has it")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            if value == 0 and default == 0:
                return 0
            raise self.error(key, value, f"a whole number from {least} to {most}")
        return value

    def any_count(self, keys: tuple[str, ...]) -> int:
        """The first of them that is there, else 0."""
        return next((self.count(key, 0) for key in keys if self.values.get(key) is not None), 0)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def text(self, key: str) -> str:
        """Empty where it is missing."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(key, value, "text")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """An object; empty where it is missing."""
        value = self.values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.error(key, value, "an object")
        return value

    def items(self, key: str, length: int | None = None) -> list[Any]:
        """A list, of ``length`` items where that is given; empty where it is missing."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(key, value, "a list")
        if length is not None and len(value) != length:
            raise ConfigError(f"{self.where}: {key} has {len(value)} items: must be {length}, one for each layer")
        return value

    def error(self, key: str, value: object, allowed: str) -> ConfigError:
        shown = repr(value)
        return ConfigError(
            f"{self.where}: {key} = {shown if len(shown) < 80 else shown[:76] + ' ...'}: must be {allowed}"
        )
