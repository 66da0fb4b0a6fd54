"""Marks: the arrivals at which measured windows may begin and end, and what had been held until then."""

from __future__ import annotations

_MARKS = 20
"""Equal parts of the arrivals: measured windows begin and end at their edges."""


class Mark:
    """Some time, and what had been held until then."""

    __slots__ = ("held_block_s", "time_s")

    def __init__(self, time_s: float, held_block_s: dict[str, float]) -> None:
        self.time_s = time_s
        self.held_block_s = held_block_s
        """By role: blocks that requests held, integrated over time."""


def marked_arrivals(num_requests: int, warmup_requests: int) -> set[int]:
    """Numbers of the arrivals, from 0 on, that a measured window may begin or end at."""
    last = max(num_requests - 1, 0)
    return {0, min(warmup_requests, last), *(last * part // _MARKS for part in range(1, _MARKS + 1))}
