"""Hybrid: ARC for traffic that mixes single prompts with conversations."""

from __future__ import annotations

from kvsim.policy.eviction.arc import Arc
from kvsim.policy.eviction.base import Access


class Hybrid(Arc):
    """ARC, with the second turn of a session as a proof of use beside the second use of a block.

    ARC's first list is for what was seen once. A new block of a session that has come back before is likely to be asked
    for at its next turn, though nobody has asked for it twice: it starts in the second list. So bursts of single
    prompts flow through the first list and leave conversations alone, and how much of the cache each list has follows
    the traffic by ARC's own rule. Where sessions are unknown this is ARC.
    """

    name = "hybrid"
    needs_access = True

    def admit(self, key: int, access: Access) -> int:
        if not access.turn or key in self._b1 or key in self._b2:
            return super().admit(key, access)
        victim = self._make_room() if len(self) >= self.capacity_blocks else self._trim()
        self._t2[key] = None
        return victim
