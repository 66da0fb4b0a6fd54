"""Values of a file that another program wrote, each checked when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kvsim.errors import ConfigError

MOST = 1e12
MOST_COUNT = 10_000_000
MOST_S = 86_400.0
"""A request that takes longer than a day was not measured in seconds."""


class Fields:
    """Values by dotted key. Raises ``ConfigError``: file, key, value, what is allowed."""

    def __init__(self, file: str, values: Any, prefix: str = "") -> None:
        """``file`` and ``prefix`` are for messages: where the values stand."""
        self.file, self.values, self._prefix = file, values, prefix

    def get(self, key: str) -> Any:
        """``None`` where there is nothing."""
        value = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def within(self, key: str) -> Fields:
        """Fields below ``key``."""
        return Fields(self.file, self.get(key), f"{self._prefix}{key}.")

    def number(self, key: str, most: float = MOST, least: float = 0.0, allowed: str | None = None) -> float:
        """``allowed`` says what is, where the two limits would not."""
        value = self.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise self.error(key, allowed or f"must be a number from {least:g} to {most:g}")
        return float(value)

    def maybe(self, key: str, most: float = MOST) -> float | None:
        return None if self.get(key) is None else self.number(key, most)

    def mean_over(self, count: int, key: str) -> float:
        """A number that is there unless it is a mean over nothing: then 0."""
        return self.number(key) if count else 0.0

    def whole(
        self, key: str, default: int | None = None, *, least: int = 1, most: int | None = None, of: str = ""
    ) -> int:
        """A whole number, ``16`` or ``16.0``; ``default`` where there is none. ``of``: what is counted, to say so."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not is_whole or isinstance(value, bool) or value < least or (most and value > most):
            what = f"a whole number of {of}" if of else "a whole number"
            raise self.error(key, f"must be {what} from {least}{f' to {most:,}' if most else ''}")
        return int(value)

    def count(self, key: str) -> int:
        """Requests, or anything else of which there may be none."""
        return self.whole(key, least=0, most=MOST_COUNT)

    def maybe_count(self, key: str) -> int | None:
        return None if self.get(key) is None else self.count(key)

    def flag(self, key: str, default: bool) -> bool:
        """``true`` or ``false``; ``default`` where there is nothing."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def choice(self, key: str, allowed: Collection[str], default: str) -> str:
        """One of ``allowed``; ``default`` where there is nothing."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}")
        return value

    def text(self, key: str) -> str | None:
        value = self.get(key)
        return value.strip() if isinstance(value, str) and value.strip() else None

    def times(self, keys: dict[str, str], unit_s: float) -> dict[str, float]:
        """Seconds by name, those that are there."""
        found = {name: self.maybe(key, MOST_S / unit_s) for name, key in keys.items()}
        return {name: value * unit_s for name, value in found.items() if value is not None}

    def error(self, key: str, allowed: str) -> ConfigError:
        where = f"{self.file}: " if self.file else ""
        return ConfigError(f"{where}{self._prefix}{key} = {self.get(key)!r:.60}: {allowed}")
