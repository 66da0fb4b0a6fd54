"""Decode reservations: what an instance keeps free for the tokens its requests are still expected to generate."""

from __future__ import annotations

from collections import deque

from kvsim.sim.engine.sequence import Sequence


class DecodeReservation:
    """Each reserved request has ``tokens`` of room, which shrinks by one with every token it generates, down to none.

    Kept as sums: a request that started at step s has ``s + tokens - steps`` left. Where a step gives several tokens in
    the mean, the room shrinks by that many with each.
    """

    __slots__ = ("_counts", "_ends", "_left", "_passed", "_steps", "_sum_ends", "pending", "tokens")

    def __init__(self, tokens: int, tokens_per_step: float = 1.0) -> None:
        self.tokens = tokens
        self._steps = tokens if tokens_per_step == 1.0 else int(tokens / tokens_per_step)
        """After which nothing of it is left."""
        self.pending = 0
        """Reserved requests that do not decode yet."""
        self._ends: deque[int] = deque()
        """The steps at which reservations are used up, in their order."""
        self._counts: dict[int, int] = {}
        """Reservations by these steps. No sequences: one that has left would be kept until its step has come."""
        self._passed = -1
        """What was to be used up by this step is."""
        self._left = 0
        self._sum_ends = 0

    def reserve(self) -> None:
        self.pending += 1

    def start(self, sequence: Sequence, step: int) -> None:
        """A reserved request decodes from ``step`` on."""
        self.pending -= 1
        end = step + self._steps
        if end <= self._passed:
            return
        sequence.reservation_end = end
        count = self._counts.get(end)
        if count is None:
            self._ends.append(end)
            count = 0
        self._counts[end] = count + 1
        self._left += 1
        self._sum_ends += end

    def leave(self, sequence: Sequence) -> None:
        """End the reservation of a request that is done or preempted, if it has one."""
        end, sequence.reservation_end = sequence.reservation_end, -1
        if end > self._passed:
            self._counts[end] -= 1
            self._left -= 1
            self._sum_ends -= end

    def outstanding_tokens(self, step: int) -> int:
        """Tokens still kept for all requests when ``step`` steps have been scheduled."""
        ends = self._ends
        while ends and ends[0] <= step:
            end = self._passed = ends.popleft()
            count = self._counts.pop(end)
            self._left -= count
            self._sum_ends -= count * end
        left = self._sum_ends - self._left * step
        if self._steps != self.tokens and self._steps:
            left = left * self.tokens // self._steps
        return self.pending * self.tokens + left
