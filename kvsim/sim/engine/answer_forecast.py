"""Whether a pool without a cache holds all answers to their ends, as SGLang looks ahead where no answer stops early."""

from __future__ import annotations

from typing import Final

SPARE_TOKENS: Final = 1
"""Kept free for each that goes on."""

Growth = tuple[int, int]
"""Tokens that a sequence does not have yet, and those that it has, which are free at its end."""


class AnswerForecast:
    """Sequences in the order in which they end, as far as one pass of admissions has looked at them."""

    __slots__ = ("_growths",)

    def __init__(self) -> None:
        self._growths: list[Growth] = []

    @property
    def is_empty(self) -> bool:
        """Whether nobody is known."""
        return not self._growths

    def clear(self) -> None:
        """Begin another pass."""
        self._growths = []

    def begin(self, growths: list[Growth]) -> None:
        """Know of all these."""
        self._growths = sorted([growth for growth in growths if growth[0] > 0], key=_left)

    def add(self, growth: Growth) -> None:
        """Know of one more. One that ends after all others stands before the last of them, as it does in SGLang."""
        if growth[0] <= 0:
            return
        place = 0
        for place, other in enumerate(self._growths):  # noqa: B007 (where it stops is the place)
            if growth[0] <= other[0]:
                break
        self._growths.insert(place, growth)

    def fits(self, free_tokens: int) -> bool:
        """Whether ``free_tokens``, and what is freed by those that end, suffice at every end."""
        count = len(self._growths)
        for place, (left, held) in enumerate(self._growths):
            going_on = count - place
            if free_tokens - left * going_on <= SPARE_TOKENS * going_on:
                return False
            free_tokens += held
        return True


def _left(growth: Growth) -> int:
    return growth[0]
