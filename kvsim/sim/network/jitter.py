"""How much longer than its share of the links a transfer takes: variation, and rare tails."""

from __future__ import annotations

import math

import numpy as np

_BATCH = 4096


class Jitter:
    """Factors on the time of a transfer, latency included: lognormal with mean 1, now and then many times as long."""

    def __init__(self, cv: float, tail_prob: float, tail_multiplier: float, generator: np.random.Generator) -> None:
        """``cv``: coefficient of variation. A share ``tail_prob`` takes ``tail_multiplier`` x as long."""
        variance = math.log1p(cv * cv)
        self._mean, self._sigma = -variance / 2, math.sqrt(variance)
        self._tail_prob, self._tail_multiplier = tail_prob, tail_multiplier
        self._generator = generator
        self._drawn: list[float] = []
        self.is_on = cv > 0 or (tail_prob > 0 and tail_multiplier != 1)

    def factor(self) -> float:
        """The next transfer's; 1, and nothing is drawn, where there is no jitter."""
        if not self.is_on:
            return 1.0
        if not self._drawn:
            factors = self._generator.lognormal(self._mean, self._sigma, _BATCH)
            factors[self._generator.random(_BATCH) < self._tail_prob] *= self._tail_multiplier
            self._drawn = factors[::-1].tolist()
        return self._drawn.pop()
