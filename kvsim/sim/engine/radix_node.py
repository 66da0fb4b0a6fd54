"""A node of a radix tree of prefixes: a run of blocks with one past and one future."""

from __future__ import annotations


class RadixNode:
    """Blocks that follow those of ``parent``, as segments ``(chain, low, high)`` of chains, one after the other."""

    __slots__ = ("children", "edge", "parent", "queued", "refs", "size", "stamp")

    def __init__(self, parent: RadixNode | None, edge: list[tuple[int, int, int]], stamp: int) -> None:
        self.parent = parent
        self.edge = edge
        self.size = sum(high - low for _, low, high in edge)
        self.children: dict[tuple[int, int], RadixNode] = {}
        """By the chain and the place in it of their first block."""
        self.refs = 0
        """Tables that hold this node, or one below it."""
        self.stamp = stamp
        """The touch that was its last."""
        self.queued = False
        """Whether it stands among the leaves that may go, true or not."""

    def key(self) -> tuple[int, int]:
        chain, low, _ = self.edge[0]
        return chain, low

    def split(self, size: int) -> RadixNode:
        """Cut the first ``size`` blocks off into a node above; this one stays the deeper part. Returns the upper."""
        left, upper_edge, lower_edge = size, [], []
        for chain, low, high in self.edge:
            cut = min(max(low + left, low), high)
            if cut > low:
                upper_edge.append((chain, low, cut))
            if cut < high:
                lower_edge.append((chain, cut, high))
            left -= cut - low
        upper = RadixNode(self.parent, upper_edge, self.stamp)
        upper.refs = self.refs
        assert self.parent is not None
        self.parent.children[upper.key()] = upper
        self.parent, self.edge = upper, lower_edge
        self.size -= size
        upper.children[self.key()] = self
        return upper
