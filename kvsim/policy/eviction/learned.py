"""Learned: whoever is worth least by a model's guess of when it is asked for again goes.

The model learns from what came of earlier blocks, as Song et al., "Learning Relaxed Belady for Content Distribution
Network Caching", NSDI 2020. Here it tells the chance of a use for every step of a block's age: it is asked about a
block once per use, and what the block is worth then falls and rises as it waits.
"""

from __future__ import annotations

from pathlib import Path

from kvsim.learned import Model, read_model
from kvsim.learned.features import HISTORY_BLOCKS
from kvsim.learned.ranking import Ranking
from kvsim.learned.stream import Part, PromptStream
from kvsim.policy.eviction.base import NOBODY, Access, Eviction

OPEN_SHARE = 4
"""A prompt that takes this part of the cache is not waited for to its end."""


class Learned(Eviction):
    """Least hits per second of room first, by a block's features when it was asked for and by its age.

    The blocks of the prompt that asks stay until its last one has come, as they are judged together. Beyond the last
    age that the model knows the longest idle goes first, before all others.
    """

    name = "learned"
    needs_access = True
    heads_first = True

    def __init__(
        self, capacity_blocks: int, seed: int = 0, model: Model | None = None, recalibrates: bool = True
    ) -> None:
        """``model``: by default the shipped one, ``learned/mooncake_conversation.txt``. ``recalibrates``: whether its
        chances are corrected by what becomes of blocks; not where others than prompts ask, or not all that prompts ask.
        """
        super().__init__(capacity_blocks, seed)
        self._ranking = Ranking(model if model is not None else read_model(), capacity_blocks, recalibrates)
        self._stream = PromptStream(max(HISTORY_BLOCKS, 2 * capacity_blocks))

    @classmethod
    def from_file(
        cls, capacity_blocks: int, path: str | Path | None = None, seed: int = 0, recalibrates: bool = True
    ) -> Learned:
        """With the model of a file; ``None``: the shipped one. Raises ``ConfigError`` for a file that is none."""
        return cls(capacity_blocks, seed, read_model(path), recalibrates)

    def __contains__(self, key: int) -> bool:
        return key in self._ranking

    def __len__(self) -> int:
        return len(self._ranking)

    def hit(self, key: int, access: Access) -> None:
        self._asked(key, access)
        self._ranking.ask(key)

    def admit(self, key: int, access: Access) -> int:
        self._asked(key, access)
        victim = NOBODY
        if len(self._ranking) >= self.capacity_blocks:
            victim = self._ranking.pop(access.time_s)
        self._ranking.add(key)
        return victim

    def discard(self, key: int) -> None:
        self._ranking.remove(key)

    def _asked(self, key: int, access: Access) -> None:
        if self._stream.num_open * OPEN_SHARE >= self.capacity_blocks:
            self._judge(self._stream.close())
        part = self._stream.ask(key, access)
        if part is not None:
            self._judge(part)

    def _judge(self, part: Part | None) -> None:
        if part is not None:
            self._ranking.judge(part)
