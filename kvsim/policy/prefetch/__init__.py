"""Prefetch policies, by name: one file and one line of the registry each. Policies know nothing of SimPy."""

from __future__ import annotations

from kvsim.policy.prefetch.base import Prefetch, PrefetchSettings
from kvsim.policy.prefetch.next_block import NextBlock
from kvsim.policy.prefetch.nothing import Nothing
from kvsim.policy.prefetch.session import SessionPrefetch
from kvsim.policy.registry import Policies, is_own

__all__ = ["PREFETCHERS", "Prefetch", "PrefetchSettings", "make_prefetch"]

PREFETCHERS: Policies[type[Prefetch]] = Policies(
    "policies.prefetch",
    {
        "none": Nothing,
        "session": SessionPrefetch,
        "next_block": NextBlock,
    },
    base=Prefetch,
    kind="prefetch",
)


def make_prefetch(name: str, settings: PrefetchSettings) -> Prefetch:
    """The policy of that name, or of the class that ``package.module:Class`` names.

    Raises ``ConfigError`` for an unknown name, with the nearest, and for settings that it cannot use.
    """
    found = PREFETCHERS.find(name)
    if not is_own(name):
        return found(settings)
    from kvsim.policy.checked_policy import CheckedPrefetch

    return CheckedPrefetch(found, name, settings)
