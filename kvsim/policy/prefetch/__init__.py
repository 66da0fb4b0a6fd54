"""Prefetch policies, by name: one file and one line of the registry each. Policies know nothing of SimPy."""

from __future__ import annotations

from kvsim.policy.eviction.named import find_class, is_own
from kvsim.policy.prefetch.base import Prefetch, PrefetchSettings
from kvsim.policy.prefetch.checked import CheckedPrefetch
from kvsim.policy.prefetch.next_block import NextBlock
from kvsim.policy.prefetch.nothing import Nothing
from kvsim.policy.prefetch.session import SessionPrefetch

__all__ = ["PREFETCHERS", "Prefetch", "PrefetchSettings", "make_prefetch"]

PREFETCHERS: dict[str, type[Prefetch]] = {"none": Nothing, "session": SessionPrefetch, "next_block": NextBlock}


def make_prefetch(name: str, settings: PrefetchSettings) -> Prefetch:
    """The policy of that name, or of the class that ``package.module:Class`` names.

    Raises ``ConfigError`` for an unknown name, with the nearest, and for settings that it cannot use.
    """
    found = find_class("prefetch", name, PREFETCHERS, Prefetch)
    return CheckedPrefetch(found, name, settings) if is_own(name) else found(settings)
