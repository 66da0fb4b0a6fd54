"""Eviction policies, by name: one file and one line of the registry each. Policies know nothing of SimPy."""

from __future__ import annotations

from kvsim.policy.eviction.arc import Arc
from kvsim.policy.eviction.base import NEVER, NOBODY, Access, Eviction, next_uses
from kvsim.policy.eviction.belady import Belady
from kvsim.policy.eviction.fifo import Fifo
from kvsim.policy.eviction.gdsf import Gdsf
from kvsim.policy.eviction.hybrid import Hybrid
from kvsim.policy.eviction.learned import Learned
from kvsim.policy.eviction.lfu import Lfu
from kvsim.policy.eviction.lirs import Lirs
from kvsim.policy.eviction.lru import Lru
from kvsim.policy.eviction.random_choice import RandomChoice
from kvsim.policy.eviction.s3fifo import S3Fifo
from kvsim.policy.eviction.session import Session
from kvsim.policy.eviction.sieve import Sieve
from kvsim.policy.eviction.twoq import TwoQ
from kvsim.policy.registry import Policies, is_own

__all__ = ["EVICTIONS", "NEVER", "NOBODY", "Access", "Eviction", "make_eviction", "next_uses"]

EVICTIONS: Policies[type[Eviction]] = Policies(
    "policies.eviction",
    {
        "fifo": Fifo,
        "lru": Lru,
        "lfu": Lfu,
        "arc": Arc,
        "twoq": TwoQ,
        "sieve": Sieve,
        "s3fifo": S3Fifo,
        "lirs": Lirs,
        "gdsf": Gdsf,
        "random": RandomChoice,
        "session": Session,
        "hybrid": Hybrid,
        "learned": Learned,
        "belady": Belady,
    },
    base=Eviction,
    kind="eviction",
)


def make_eviction(name: str, capacity_blocks: int, seed: int = 0) -> Eviction:
    """An empty cache of ``capacity_blocks`` under the policy of that name.

    Raises ``ConfigError`` for an unknown name, with the nearest, and for less than one block. A class of a user's own
    is checked at every call.
    """
    found = EVICTIONS.find(name)
    if not is_own(name):
        return found(capacity_blocks, seed)
    from kvsim.policy.checked_policy import checked_eviction

    return checked_eviction(found, name, capacity_blocks, seed)
