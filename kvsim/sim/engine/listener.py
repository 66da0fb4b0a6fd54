"""What an engine is to the system around it: its role, and whom it tells of its sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from kvsim.sim.engine.sequence import Sequence

if TYPE_CHECKING:
    from kvsim.sim.engine.engine import Engine

Role = Literal["prefill", "decode", "colocated"]


class EngineListener(Protocol):
    """Told by an engine of what happens to its sequences, at the instant at which it happens: the system around it."""

    def tokens(self, engine: Engine, sequence: Sequence, count: int) -> None:
        """So many more tokens of the sequence's answer are there. Told by engines that tell of tokens alone."""

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """A step that computed a chunk of this sequence has ended; ``sequence.computed`` tokens have KV."""

    def computing(self, engine: Engine, sequence: Sequence, first: int, end: int, end_s: float) -> None:
        """A step has begun, and ends at ``end_s``; then tokens ``[first, end)`` of a sequence will have KV, as those
        before them have now. Told by engines that announce chunks alone."""

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """The sequence has lost its blocks and waits to be computed again."""

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """The last token was generated and the blocks are free again."""

    def left(self, engine: Engine, sequence: Sequence) -> None:
        """The blocks of a sequence that ran when it was aborted are free again."""


LookUp = Callable[["Engine", Sequence, int], int]
"""``look_up(engine, sequence, cached_tokens)``: see ``kvsim.sim.engine.scheduler.Scheduler``."""
