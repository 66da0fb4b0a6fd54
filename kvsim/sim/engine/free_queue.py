"""The queue of free blocks, the next to be taken first, as segments of chains (``kvsim.sim.engine.chain``)."""

from __future__ import annotations

from collections import deque
from typing import Final

from kvsim.sim.engine.chain import Segment

_FEW: Final = 16
"""So many empty segments are worth no look at all of them."""


class FreeQueue:
    """Segments in the order in which their blocks are taken. One that was emptied elsewhere stays until it surfaces, or
    the queue has doubled since such ones were last taken out.
    """

    __slots__ = ("_most", "_segments")

    def __init__(self) -> None:
        self._segments: deque[Segment] = deque()
        self._most = _FEW
        """Segments that there may be before empty ones are taken out."""

    def add(self, segment: Segment) -> None:
        """The blocks of a segment, which has some, are free from now on."""
        segments = self._segments
        segments.append(segment)
        if len(segments) > self._most:
            self._segments = deque([each for each in segments if each.size])
            self._most = 2 * len(self._segments) + _FEW

    def add_strange(self, count: int, is_blank: bool) -> None:
        """So many blocks that nobody can hit are free from now on: they go one by one, so that those that lie side by
        side are one segment."""
        segments = self._segments
        while segments:
            last = segments[-1]
            if last.size:
                if last.chain is not None or last.copies is not None or last.is_blank != is_blank:
                    break
                last.high += count
                return
            segments.pop()
        segment = Segment(None, 0, count)
        segment.is_blank = is_blank
        self.add(segment)

    def first(self) -> Segment:
        """The one whose blocks are taken next, or an empty one; there must be one."""
        return self._segments[0]

    def drop_first(self) -> None:
        self._segments.popleft()

    def blocks(self) -> int:
        """How many blocks are in it."""
        return sum(segment.size for segment in self._segments)
