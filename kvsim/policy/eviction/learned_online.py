"""Learned while it runs: the first prompts of a run are learned from, and judged by from then on."""

from __future__ import annotations

import numpy as np

from kvsim.learned import train_online
from kvsim.learned.features import HISTORY_BLOCKS
from kvsim.learned.ranking import Ranking
from kvsim.learned.stream import Part, PromptStream
from kvsim.policy.eviction.base import Eviction
from kvsim.policy.eviction.learned import Learned


class LearnedOnline(Learned):
    """Least recently used until ``warmup_prompts`` have asked; then a model of what became of their blocks.

    The train mode ``warmup``. It has a parameter of its own and so no name in the registry: whoever knows how many
    prompts a run has makes it. Raises ``WorkloadError`` from the access that ends the warm-up where those prompts are
    too few to learn from.
    """

    def __init__(self, capacity_blocks: int, warmup_prompts: int, seed: int = 0) -> None:
        Eviction.__init__(self, capacity_blocks, seed)
        self._ranking = Ranking(None, capacity_blocks)
        self._stream = PromptStream(max(HISTORY_BLOCKS, 2 * capacity_blocks))
        self._seed, self._warmup_prompts = seed, warmup_prompts
        self._parts: list[Part] = []
        """What was asked for so far; empty once a model is there."""

    def _judge(self, part: Part | None) -> None:
        super()._judge(part)
        if part is None or self._ranking.model is not None:
            return
        self._parts.append(part)
        if self._stream.num_prompts > self._warmup_prompts:
            self._learn()

    def _learn(self) -> None:
        """Train, and judge anew what is here."""
        parts, self._parts = self._parts, []
        keys = [key for part in parts for key in part.keys]
        times_s = np.repeat([part.time_s for part in parts], [len(part.keys) for part in parts])
        model = train_online([part.runs for part in parts], keys, times_s, self._warmup_prompts, self._seed)
        self._ranking.learned(model, parts)
