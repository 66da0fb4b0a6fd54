"""``--compare KEY=V1,V2``: one setting, several values."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from kvsim.config.layer import all_keys
from kvsim.config.schema import Config
from kvsim.config.yaml_source import kind, parse, shown
from kvsim.errors import ConfigError

STEPWISE = "stepwise"
"""A flag rather than a setting, compared as one."""
SECTIONS = ("model", "engine", "hardware", "steptime", "cache", "cluster", "pd_separation", "routing", "policies")
"""What serves; the other sections say what is served, how much of it, and what counts as good."""


@dataclass(frozen=True)
class Comparison:
    """A dotted key, or ``stepwise``, and the values to serve the same requests with."""

    key: str
    values: tuple[Any, ...]

    @property
    def flag(self) -> str:
        """The flag that asked for it, as it may stand before a message."""
        return f"--compare {self.key}"


def read_comparison(text: str) -> Comparison:
    """The comparison that ``KEY=V1,V2`` asks for, its values in YAML.

    Raises ``ConfigError`` for another form and for keys that are unknown or part of the traffic; values are checked
    where a configuration is made with them.
    """
    key, equals, listed = text.partition("=")
    key = key.strip()
    if not (key and equals):
        raise ConfigError(f"--compare: {shown(text)} is not of the form section.key=value,value")
    where = f"--compare {key}"
    known = [STEPWISE, *(name for name in all_keys(Config) if name.partition(".")[0] in SECTIONS)]
    if key not in known:
        raise ConfigError(f"--compare: {_unknown(key, known)}")
    values = parse(f"[{listed}]", where)
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: {kind(values)}; one value or several, separated by commas, are wanted")
    if key == STEPWISE:
        for value in values:
            if not isinstance(value, bool):
                raise ConfigError(f"{where}: {shown(value)}: must be a boolean")
    return Comparison(key, tuple(values))


def _unknown(key: str, known: list[str]) -> str:
    if key in all_keys(Config):
        return f"{shown(key)} changes what is served; allowed: {STEPWISE} and the keys of {', '.join(SECTIONS)}"
    close = get_close_matches(key, known, n=1, cutoff=0.6)
    return f"unknown key {shown(key)}; " + (f"did you mean {shown(close[0])}?" if close else "config.yaml has them all")
