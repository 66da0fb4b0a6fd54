"""Numbers at random, drawn many at a time."""

from __future__ import annotations

from typing import Final

import numpy as np

_AT_ONCE: Final = 4096


class Draws:
    """Numbers from 0 to 1, uniformly."""

    __slots__ = ("_drawn", "_generator")

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._drawn: list[float] = []

    def uniform(self) -> float:
        """The next one."""
        if not self._drawn:
            self._drawn = self._generator.random(_AT_ONCE).tolist()
        return self._drawn.pop()
