"""Drafts of one sequence: how many stand ready, which are on their way, and how many of them are accepted."""

from __future__ import annotations

from typing import Final

_M1: Final = 2147483563
_M2: Final = 2147483399


class Drafting:
    """What vLLM's scheduler knows of a sequence beside its tokens, and the draws that decide what is accepted.

    Draws depend on the run's seed and the request alone. They are L'Ecuyer's combined generator (1988, "Efficient and
    Portable Combined Random Number Generators", CACM 31 (6)): small whole numbers, the same on every machine.
    """

    __slots__ = (
        "_accepted",
        "_first",
        "_num_proposals",
        "_num_verified",
        "_proposed",
        "_second",
        "drafts",
        "end_tokens",
        "gone",
        "in_flight",
        "placeholders",
        "stale",
    )

    def __init__(self, end_tokens: int, seed: int, request_id: int) -> None:
        self.end_tokens = end_tokens
        """Tokens of the sequence with its last one."""
        self.drafts = 0
        """For the next step (vLLM's ``spec_token_ids``)."""
        self.placeholders = 0
        """Scheduled ahead: tokens that are on their way, and drafts that may be rejected."""
        self.in_flight = 0
        """Steps that give it tokens, and have not ended."""
        self.stale = 0
        """Steps among these that were scheduled before it was preempted."""
        self.gone = False
        """Complete, or given up: nothing that is on its way counts any more."""
        mixed = (seed % _M1 + 1) * 48271 % _M1
        self._first = _scattered(mixed + request_id % _M1, _M1)
        self._second = _scattered(mixed * 40692 % _M2 + request_id % _M2, _M2)
        self._accepted: list[int] | None = None
        self._proposed: list[int] | None = None
        self._num_verified = self._num_proposals = 0

    def follow(self, accepted: list[int], proposed: list[int] | None) -> None:
        """Draw nothing: these are accepted, and proposed, one after the other and from the beginning again."""
        self._accepted, self._proposed = accepted, proposed

    def accepted_of(self, drafts: int, reached: tuple[float, ...]) -> int:
        """How many of so many drafts are accepted; ``reached[i]``: the probability that more than ``i`` are."""
        if self._accepted is not None:
            chosen = self._accepted[self._num_verified % len(self._accepted)]
            self._num_verified += 1
            return min(chosen, drafts)
        place, found = self._uniform(), 0
        while found < drafts and place < reached[found]:
            found += 1
        return found

    def proposed_of(self, drafts: int, share: float) -> int:
        """How many drafts a step gives for the next one: ``drafts`` of them, or none with probability 1 - ``share``."""
        if self._proposed is not None:
            chosen = self._proposed[self._num_proposals % len(self._proposed)]
            self._num_proposals += 1
            return chosen
        if share < 1.0 and self._uniform() >= share:
            return 0
        return drafts

    def _uniform(self) -> float:
        """Above 0 and below 1."""
        self._first = self._first * 40014 % _M1
        self._second = self._second * 40692 % _M2
        found = (self._first - self._second) % (_M1 - 1)
        return (found if found else _M1 - 1) / _M1


def _scattered(number: int, modulus: int) -> int:
    """Neighbouring numbers far apart, none of them 0."""
    found = number % modulus
    for _ in range(3):
        found = (found * found % modulus * (found % 65521 + 1) + 12345) % modulus
    return found if found else 1


class DraftCounts:
    """What an engine has drafted and accepted, by position."""

    __slots__ = ("accepted", "drafted", "proposals")

    def __init__(self, positions: int) -> None:
        self.proposals = 0
        """Verifications: sequences, step by step, with one draft or more."""
        self.drafted = [0] * positions
        self.accepted = [0] * positions

    def add(self, drafts: int, accepted: int) -> None:
        """A step has verified so many drafts of a sequence, and accepted the first ``accepted`` of them."""
        self.proposals += 1
        for place in range(drafts):
            self.drafted[place] += 1
        for place in range(accepted):
            self.accepted[place] += 1
