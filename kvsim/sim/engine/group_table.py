"""What one sequence holds where layers of several kinds have block tables of their own."""

from __future__ import annotations


class Block:
    """One block in use, or one that is free and caches something. Free blocks that cache nothing are a mere number."""

    __slots__ = ("after", "before", "group", "holders", "is_hashed", "key", "younger")

    def __init__(self) -> None:
        self.holders = 1
        self.is_hashed = False
        self.group = self.key = 0
        """What it caches, where ``is_hashed``."""
        self.younger: Block | None = None
        """The next one that caches the same."""
        self.before: Block | None = None
        """Neighbours in the free queue."""
        self.after: Block | None = None


Row = list[Block | None]
"""The blocks of a group that a sequence has, by their place in it; ``None``: it needs none there."""


def absent(places: int) -> Row:
    """A row of so many places without a block."""
    one: Row = [None]
    return one * places


class GroupTable:
    """What a sequence holds of each group."""

    __slots__ = ("dropped", "junction", "rows", "settled_until")

    def __init__(self, num_groups: int) -> None:
        self.rows: list[Row] = [[] for _ in range(num_groups)]
        self.dropped = [0] * num_groups
        """Places at the beginning of each row that are known to be free."""
        self.junction = 0
        """Tokens at its head that some groups had when it was looked up, and others had not; 0: all had as many."""
        self.settled_until = 0
        """Nothing is to be done while it has fewer computed tokens, as long as each step adds one."""
