"""Runs of blocks with one identity: what is cached of a chain, and its parts in the free queue."""

from __future__ import annotations


class Chain:
    """The cached blocks of one chain: ``[0, cached)`` are resident, ``[0, held)`` of them referenced."""

    __slots__ = ("cached", "count", "free", "held", "key", "lower")

    def __init__(self, key: int) -> None:
        self.key = key
        self.cached = 0
        self.held = 0
        self.count = 0
        """Holders of exactly ``held`` blocks."""
        self.lower: dict[int, int] | None = None
        """Holders of fewer blocks: blocks -> holders."""
        self.free: list[Segment] = []
        """Parts of ``[held, cached)`` in the free queue, deepest and oldest first."""


class Segment:
    """Blocks ``[low, high)`` of a chain in the free queue, the deepest first; without a chain nobody can hit them.

    One that was taken out of the queue stays in it with ``low == high`` until it surfaces.
    """

    __slots__ = ("chain", "high", "low")

    def __init__(self, chain: Chain | None, low: int, high: int) -> None:
        self.chain, self.low, self.high = chain, low, high
