"""Which settings of two configurations differ."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.config import Config, dump
from kvsim.config.comparison import SECTIONS
from kvsim.config.tree import leaves
from kvsim.difference.asked import WARM


@dataclass(frozen=True, kw_only=True)
class KeyDifference:
    """A dotted key whose values differ."""

    key: str
    a: object
    b: object
    serves: bool
    """Whether it says what serves; else both sides have it as ``a`` does: requests, seeds, the SLO."""


def differing_keys(a: Config, b: Config) -> tuple[KeyDifference, ...]:
    """All of them, those that say what serves first."""
    mine, theirs = dict(leaves(dump(a))), dict(leaves(dump(b)))
    keys = [*mine, *(key for key in theirs if key not in mine)]
    found = [
        KeyDifference(key=key, a=mine.get(key), b=theirs.get(key), serves=_serves(key))
        for key in keys
        if mine.get(key) != theirs.get(key)
    ]
    return tuple(sorted(found, key=lambda each: not each.serves))


def _serves(key: str) -> bool:
    return key.partition(".")[0] in SECTIONS or key == f"load.{WARM}"
