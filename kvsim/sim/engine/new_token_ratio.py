"""What share of its longest answer a running request is reckoned to use yet: SGLang's ``new_token_ratio``."""

from __future__ import annotations

from typing import Final

FIRST_RATIO: Final = 0.7
LEAST_SHARE: Final = 0.14
"""Share of the first ratio below which it does not sink."""
DECAY_STEPS: Final = 600
"""Decode steps from the first ratio to the least."""
RETRACT_STEPS: Final = 20
"""Decode steps that room is made for when somebody has to go."""


class NewTokenRatio:
    """Sinks with each decode step, and rises when it was too low: somebody had to be retracted."""

    __slots__ = ("_decay", "_first", "_least", "current")

    def __init__(self, conservativeness: float) -> None:
        """``conservativeness``: SGLang's ``--schedule-conservativeness``."""
        self._first = min(FIRST_RATIO * conservativeness, 1.0)
        self._least = min(self._first * LEAST_SHARE, 1.0)
        self._decay = (self._first - self._least) / DECAY_STEPS
        self.current = self._first

    def decay(self, steps: int) -> None:
        """Count decode steps that were scheduled."""
        for _ in range(steps):
            if self.current <= self._least:
                return
            self.current = max(self.current - self._decay, self._least)

    def reset(self) -> None:
        """Begin anew: the engine is idle."""
        self.current = self._first

    def retracted(self, known_tokens: int, most_tokens: int, sequences: int) -> None:
        """After retractions: ``sequences`` go on, which have ``known_tokens`` of ``most_tokens``."""
        self.current = min(1.0, (known_tokens + RETRACT_STEPS * sequences) / (most_tokens + 1))
