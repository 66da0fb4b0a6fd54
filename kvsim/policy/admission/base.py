"""What an admission policy is: which blocks may enter a cache at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from kvsim.policy.eviction.base import Access


@dataclass(frozen=True)
class AdmissionSettings:
    """What admission policies may be told; each takes what it needs."""

    capacity_blocks: int
    """Blocks of the cache that a policy stands before."""
    depth_threshold: int
    """``selective_write``: blocks of a prompt's head that are worth writing."""
    ttl_s: float | None = None
    """``ttl``: how long a block counts after its last use."""


class Admission(ABC):
    """Stands before one cache and knows neither it nor SimPy.

    Whoever runs the cache asks ``expired`` about a resident key before that counts as a hit, and ``admits`` about a
    missing one, also one to be prefetched, before it enters.
    """

    name: ClassVar[str]

    def __init__(self, settings: AdmissionSettings) -> None:
        """Raises ``ConfigError`` for a setting that it needs and cannot use."""
        self.settings = settings

    @abstractmethod
    def admits(self, key: int, access: Access) -> bool:
        """Whether ``key``, which is asked for and not resident, may enter. Asked once per miss."""

    def expired(self, key: int, access: Access) -> bool:
        """Whether ``key``, which is asked for and resident, must count as absent: it is then discarded, and a miss."""
        return False
