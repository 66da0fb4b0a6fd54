"""Decode reservations: what an instance keeps free for the tokens its requests are still expected to generate."""

from __future__ import annotations

from collections import deque

from kvsim.sim.engine.sequence import Sequence


class DecodeReservation:
    """Each reserved request has ``tokens`` of room, which shrinks by one with every token it generates, down to none.

    Kept as sums: a request that started at step s has ``s + tokens - steps`` left. Where a step gives several tokens in
    the mean, the room shrinks by that many with each.
    """

    __slots__ = (
        "_count",
        "_queue",
        "_steps",
        "_sum_ends",
        "pending",
        "tokens",
    )

    def __init__(self, tokens: int, tokens_per_step: float = 1.0) -> None:
        self.tokens = tokens
        self._steps = tokens if tokens_per_step == 1.0 else int(tokens / tokens_per_step)
        """After which nothing of it is left."""
        self.pending = 0
        """Reserved requests that do not decode yet."""
        self._queue: deque[Sequence] = deque()
        self._count = 0
        self._sum_ends = 0

    def reserve(self) -> None:
        self.pending += 1

    def start(self, sequence: Sequence, step: int) -> None:
        """A reserved request decodes from ``step`` on."""
        self.pending -= 1
        sequence.reservation_end = step + self._steps
        self._queue.append(sequence)
        self._count += 1
        self._sum_ends += sequence.reservation_end

    def leave(self, sequence: Sequence) -> None:
        """End the reservation of a request that is done, preempted, or has generated so many tokens."""
        if sequence.reservation_end >= 0:
            self._count -= 1
            self._sum_ends -= sequence.reservation_end
            sequence.reservation_end = -1

    def outstanding_tokens(self, step: int) -> int:
        """Tokens still kept for all requests when ``step`` steps have been scheduled."""
        queue = self._queue
        while queue and queue[0].reservation_end <= step:
            self.leave(queue.popleft())
        left = self._sum_ends - self._count * step
        if self._steps != self.tokens and self._steps:
            left = left * self.tokens // self._steps
        return self.pending * self.tokens + left
