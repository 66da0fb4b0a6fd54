"""One step as it was scheduled: who computes what, and what will have come of it when it has run."""

from __future__ import annotations

from typing import Final

from kvsim.acyclic import mypyc_attr
from kvsim.sim.engine.sequence import NOBODY, Sequence


@mypyc_attr(acyclic=True)
class Chunk:
    """A prompt in one step: ``tokens`` of it are computed behind ``before`` others."""

    __slots__ = ("again", "before", "high_water", "sequence", "tokens")

    def __init__(self, sequence: Sequence, tokens: int) -> None:
        self.sequence, self.tokens, self.before = sequence, tokens, sequence.computed
        self.high_water = sequence.high_water
        self.again = sequence.resumed
        """The sequence has been preempted before."""


NO_CHUNKS: Final[list[Chunk]] = []
"""No chunks: it stays empty, as ``NOBODY`` does."""

Output = tuple[Sequence, int, bool]
"""A sequence that gets tokens by a step, how many drafts of it the step verifies, and whether these are real ones."""
NO_OUTPUTS: Final[list[Output]] = []
"""No outputs: it stays empty, as ``NOBODY`` does."""


class StepCopies:
    """The copies of one step: those that it waits for, and those of what it computes."""

    __slots__ = ()

    def waits_until_s(self) -> float:
        """When the copies of blocks that it overwrites are over."""
        raise NotImplementedError

    def begin(self) -> None:
        """The step is over: what it has computed may be copied."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class Step:
    """One scheduled step: what of it outlives the scheduling of the next one."""

    __slots__ = (
        "chunks",
        "completed",
        "copies",
        "decodes",
        "ended",
        "first_s",
        "is_pure",
        "joined",
        "limit",
        "load_s",
        "num_decodes",
        "num_lost",
        "num_measured",
        "outputs",
        "preempted",
        "returned",
        "slope_s",
        "stalled",
        "steps_before",
        "version",
    )

    ended: list[Sequence]
    """Sequences that have their last token when it has run, in the order of admission; set by ``advance``."""

    def __init__(self, joined: list[Sequence], preempted: list[Sequence]) -> None:
        self.chunks = NO_CHUNKS
        self.joined = joined
        """Sequences whose KV came from elsewhere, which decode for the first time."""
        self.preempted = preempted
        """Sequences that lost their blocks to make room for it."""
        self.stalled = self.returned = NOBODY
        """Decoding sequences that it does not reach, and those that the one before did not reach and it does."""
        self.completed = NOBODY
        """Sequences whose tokens so far all have KV when it has run, and did not before."""
        self.decodes = NOBODY
        """Decoding sequences in it, where somebody is told of their tokens."""
        self.outputs = NO_OUTPUTS
        """Who gets tokens by it, in the order in which they were scheduled; speculative decoding alone."""
        self.copies: StepCopies | None = None
        """What a connector copies for it, where it does."""
        self.num_decodes = 0
        self.num_measured = 0
        """Decoding sequences that are not warm-up."""
        self.num_lost = 0
        """Decoding sequences that are retracted while it runs, so that its token of theirs is lost."""
        self.steps_before = 0
        """Decode steps scheduled before it."""
        self.version = 0
        """Version of the decoding batch."""
        self.is_pure = False
        """Whether it only decodes, and all of the batch."""
        self.load_s = 0.0
        """Seconds of it that LoRA adapters are loaded for."""
        self.first_s = self.slope_s = 0.0
        """Seconds that it takes, and how much longer each further step of the same batch does."""
        self.limit = 0
        """Steps that ``first_s`` and ``slope_s`` hold for."""
