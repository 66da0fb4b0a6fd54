"""One question for one block, as policies are told of it."""

from __future__ import annotations

from typing import Final

NEVER: Final = 1 << 62
"""The next use of a key that is not asked for again."""


class Access:
    """One question for one block of a prompt.

    One object is changed and handed out again for every access: a policy must not keep a reference to it.
    """

    __slots__ = ("blocks", "depth", "index", "next_use", "session_id", "time_s", "turn")

    def __init__(self) -> None:
        self.index = 0
        """Running number of the access."""
        self.depth = 0
        """Position of the block in its prompt, from 0."""
        self.blocks = 1
        """Blocks in the whole prompt."""
        self.time_s = 0.0
        self.session_id = -1
        """-1: unknown."""
        self.turn = 0
        """How many earlier prompts of that session were seen; 0 for the first and where that is unknown."""
        self.next_use = NEVER
        """Index of the next access to the same key; filled for policies with ``is_offline`` alone."""
