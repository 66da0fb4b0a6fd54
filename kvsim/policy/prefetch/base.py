"""What a prefetch policy is: which blocks to bring up to a faster tier before anybody asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kvsim.policy.eviction.base import Access


@dataclass(frozen=True)
class PrefetchSettings:
    """What prefetch policies may be told; each takes what it needs."""

    memory_blocks: int
    """Most blocks whose past a policy remembers."""
    ahead_blocks: int
    """Most blocks that ``next_block`` brings up after a prompt."""


class Prefetch(ABC):
    """Asked after each prompt. It names keys; whether they exist in a slower tier, and when to bring them up, is not
    its business. It knows nothing of SimPy.
    """

    name: ClassVar[str]

    def __init__(self, settings: PrefetchSettings) -> None:
        """Raises ``ConfigError`` for a setting that it needs and cannot use."""
        self.settings = settings

    @abstractmethod
    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        """The keys to bring up, in the order of their use, now that a prompt of the blocks ``path_keys`` was served.

        ``access`` is that of the prompt's last block.
        """
