"""The blocks of a pool that one sequence holds, along its path of chains."""

from __future__ import annotations

from kvsim.acyclic import mypyc_attr
from kvsim.sim.engine.chain import Hold
from kvsim.sim.engine.group_table import GroupTable
from kvsim.sim.engine.radix_node import RadixNode

OPEN_END = 1 << 60
"""End of a path's last entry: generated tokens may continue it without limit."""

Path = tuple[tuple[int, int, int], ...]
"""Entries ``(chain, first_block, end_block)`` in block positions of the sequence; the last one is open."""


@mypyc_attr(acyclic=True)
class BlockTable:
    """The blocks one sequence holds: hashed ones along its path, and loose ones that have no hash.

    The tail of a path may be private: chains that only this request can ever have. Its blocks are hashed like all
    others, but until a preemption leaves them to be found again nobody asks for them, so they are a mere number.
    """

    __slots__ = ("entry", "groups", "hashed", "holds", "loose", "node", "path", "private_from")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entry = 0
        """Path entry in which the next block to be hashed lies."""
        self.hashed = 0
        self.loose = 0
        self.holds: list[Hold] = []
        """What it holds of each shared chain along the path, in the path's order."""
        self.node: RadixNode | None = None
        """In a radix tree: where the hashed blocks end."""
        self.groups: GroupTable | None = None
        """Where layers of several kinds have block tables of their own: those."""
        self.private_from = private_from(path)
        """Blocks from here on are private."""


def shared_blocks(path: Path, other: Path) -> int:
    """How many of their first blocks two paths have in common."""
    shared = 0
    for mine, theirs in zip(path, other, strict=False):
        if mine[:2] != theirs[:2]:
            break
        shared = min(mine[2], theirs[2])
        if mine[2] != theirs[2]:
            break
    return shared


def private_from(path: Path) -> int:
    """The first block of the path that only this request can ever have."""
    for key, first, _ in path:
        if key < 0:
            return first
    return OPEN_END
