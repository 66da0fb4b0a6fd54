"""What an engine asks of a KV connector that keeps vLLM's rules: about prompts, and at the end of each scheduling."""

from __future__ import annotations

from typing import Final

from kvsim.sim.engine.running import RunningRequests
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import StepCopies

NOT_YET: Final = -1
"""An answer to ``EngineConnector.ask``: ask again in the next step."""


class EngineConnector:
    """The scheduler's side of a connector, for one engine. Requests are asked about whenever they may be admitted."""

    __slots__ = ()

    def ask(self, sequence: Sequence, cached_tokens: int) -> int:
        """How many tokens a sequence of which the engine has ``cached_tokens`` would have once more of it was loaded; 0
        where nothing can be, ``NOT_YET`` where that is not known yet. Nothing is loaded for that.
        """
        raise NotImplementedError

    def load(self, sequence: Sequence, cached_tokens: int) -> None:
        """Load what was promised last; the sequence has its blocks, and the engine is to be told to ``resume`` it."""
        raise NotImplementedError

    def admitted(self, sequence: Sequence, cached_tokens: int, has_loaded: bool) -> None:
        """The sequence runs, with ``cached_tokens`` that are not computed. ``has_loaded``: it comes from a load."""
        raise NotImplementedError

    def scheduled(self, scheduler: RunningRequests) -> StepCopies | None:
        """A step has been scheduled, which may be empty; returns its copies, ``None`` where it has none."""
        raise NotImplementedError

    def ends(self, sequence: Sequence) -> None:
        """The sequence has its last token, and still its blocks."""
        raise NotImplementedError

    def needs_steps(self) -> bool:
        """Whether decode steps that follow this one may be unlike it, and have to be scheduled one by one."""
        raise NotImplementedError
