"""Session-aware: the blocks of sessions that are likely to come back soon outlive those of sessions that are over."""

from __future__ import annotations

from collections import OrderedDict

from kvsim.policy.eviction.base import NOBODY, Access, Eviction

MOST_TURNS = 7
"""Sessions with that many earlier prompts and more are one class."""


class Blocks(OrderedDict[int, None]):
    """What a session alone asked for, in that order: its deepest block is at the end."""

    def __init__(self, owner: int) -> None:
        super().__init__()
        self.owner = owner
        self.turn = 0
        self.last_index = 0


class Session(Eviction):
    """Evicts from the session with the least chance of an access soon: ``p(turn) / idle``.

    ``p(turn)`` is the share of sessions that went on after that many prompts, counted as they go by, and ``idle`` how
    many accesses ago the session was last there: times between turns have long tails, whose hazard falls as 1 / idle.
    Of equal turn the longest idle goes first, so that one candidate per number of turns is compared. A session that
    begins to lose blocks goes whole unless it comes back, the deepest block first, as nothing behind a lost block is
    of use. A block that several sessions asked for belongs to none and counts as a session that always goes on.

    Where sessions are unknown, each prompt is a session and a block belongs to the last one: LRU by prompts.
    """

    name = "session"
    needs_access = True
    heads_first = True

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._home: dict[int, Blocks | None] = {}
        """Owner of each resident block; ``None``: shared."""
        self._shared: OrderedDict[int, int] = OrderedDict()
        """Index of the last access; longest idle first."""
        self._sessions: dict[int, Blocks] = {}
        self._by_turn: list[OrderedDict[int, Blocks]] = [OrderedDict() for _ in range(MOST_TURNS + 1)]
        """Longest idle first."""
        self._reached = [2] * (MOST_TURNS + 1)
        self._went_on = [1] * (MOST_TURNS + 1)
        """Sessions by turn, with one of each outcome beforehand."""
        self._latest: Blocks | None = None
        self._leaving: Blocks | None = None

    def __contains__(self, key: int) -> bool:
        return key in self._home

    def __len__(self) -> int:
        return len(self._home)

    def hit(self, key: int, access: Access) -> None:
        blocks = self._asking(access)
        home = self._home[key]
        if home is blocks:
            blocks.move_to_end(key)
            return
        if home is not None:
            del home[key]
            if home.owner < 0 or blocks.owner < 0:
                self._home[key] = blocks
                blocks[key] = None
                return
            self._home[key] = None
        self._shared[key] = access.index
        self._shared.move_to_end(key)

    def admit(self, key: int, access: Access) -> int:
        victim = self._evict(access.index) if len(self._home) >= self.capacity_blocks else NOBODY
        blocks = self._home[key] = self._asking(access)
        blocks[key] = None
        return victim

    def discard(self, key: int) -> None:
        home = self._home.pop(key)
        del (self._shared if home is None else home)[key]

    def _asking(self, access: Access) -> Blocks:
        """The blocks of the session that asks, now the last of its class to have been there."""
        # Where the session is unknown, what prompts differ in is the index at which they begin.
        owner = access.session_id if access.session_id >= 0 else -1 - (access.index - access.depth)
        blocks = self._latest
        if blocks is None or not access.depth or blocks.owner != owner:
            blocks = self._latest = self._arrived(owner, access.turn, access.depth)
        blocks.last_index = access.index
        return blocks

    def _arrived(self, owner: int, turn: int, depth: int) -> Blocks:
        kind = min(turn, MOST_TURNS)
        if not depth:
            self._reached[kind] += 1
            if turn:
                self._went_on[min(turn - 1, MOST_TURNS)] += 1
        blocks = self._sessions.get(owner)
        if blocks is None:
            blocks = self._sessions[owner] = Blocks(owner)
        else:
            del self._by_turn[blocks.turn][owner]
        blocks.turn = kind
        self._by_turn[kind][owner] = blocks
        if blocks is self._leaving:
            self._leaving = None
        return blocks

    def _evict(self, index: int) -> int:
        if not self._leaving:
            self._leaving = self._least_likely(index)
        victim = self._leaving.popitem()[0] if self._leaving else self._shared.popitem(last=False)[0]
        del self._home[victim]
        return victim

    def _least_likely(self, index: int) -> Blocks | None:
        """``None`` where that is a shared block."""
        chosen: Blocks | None = None
        least = float("inf")
        if self._shared:
            least = 1 / _idle(index, next(iter(self._shared.values())))
        for turn, sessions in enumerate(self._by_turn):
            blocks = self._longest_idle(sessions)
            if blocks is not None:
                chance = self._went_on[turn] / (self._reached[turn] * _idle(index, blocks.last_index))
                if chance < least:
                    chosen, least = blocks, chance
        return chosen

    def _longest_idle(self, sessions: OrderedDict[int, Blocks]) -> Blocks | None:
        """The first that has blocks; sessions before it, which have lost all, are forgotten."""
        while sessions:
            owner, blocks = next(iter(sessions.items()))
            if blocks:
                return blocks
            del sessions[owner], self._sessions[owner]
            if blocks is self._latest:
                self._latest = None
        return None


def _idle(index: int, last_index: int) -> int:
    """Accesses since then, this one included; one at least, where a write comes after later accesses."""
    return max(1, index + 1 - last_index)
