"""The numbers of a client's JSON, each checked when it is asked for."""

from __future__ import annotations

from typing import Any

from kvsim.errors import ConfigError

MOST = 1e12
MOST_S = 86_400.0
"""A request that takes longer than a day was not measured in seconds."""
MOST_REQUESTS = 10_000_000
PERCENTS = ("p50", "p90", "p95", "p99")


class Figures:
    """Values by dotted key. Raises ``ConfigError``: file, key, value, what is allowed."""

    def __init__(self, file: str, values: Any, prefix: str = "") -> None:
        self.file, self.values, self._prefix = file, values, prefix

    def get(self, key: str) -> Any:
        """``None`` where there is nothing."""
        value = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def within(self, key: str) -> Figures:
        """Figures below ``key``."""
        return Figures(self.file, self.get(key), f"{self._prefix}{key}.")

    def number(self, key: str, most: float = MOST, least: float = 0.0) -> float:
        value = self.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise self.error(key, f"must be a number from {least:g} to {most:g}")
        return float(value)

    def maybe(self, key: str, most: float = MOST) -> float | None:
        return None if self.get(key) is None else self.number(key, most)

    def mean_over(self, count: int, key: str) -> float:
        """A number that is there unless it is a mean over nothing: then 0."""
        return self.number(key) if count else 0.0

    def count(self, key: str) -> int:
        """A whole number of requests."""
        found = self.number(key, MOST_REQUESTS)
        if found != int(found):
            raise self.error(key, "must be a whole number")
        return int(found)

    def maybe_count(self, key: str) -> int | None:
        return None if self.get(key) is None else self.count(key)

    def text(self, key: str) -> str | None:
        value = self.get(key)
        return value.strip() if isinstance(value, str) and value.strip() else None

    def times(self, keys: dict[str, str], unit_s: float) -> dict[str, float]:
        """Seconds by name, those that are there."""
        found = {name: self.maybe(key, MOST_S / unit_s) for name, key in keys.items()}
        return {name: value * unit_s for name, value in found.items() if value is not None}

    def error(self, key: str, allowed: str) -> ConfigError:
        return ConfigError(f"{self.file}: {self._prefix}{key} = {self.get(key)!r:.60}: {allowed}")
