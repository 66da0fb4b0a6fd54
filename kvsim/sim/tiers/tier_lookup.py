"""What a system remembers of a request whose instance has tiers."""

from __future__ import annotations

from kvsim.policy.eviction import Access
from kvsim.sim.engine.chain import Blocks
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.connector import TierSegment
from kvsim.sim.tiers.copy_jobs import CopyJob


class TierLookup:
    """One request's dealings with the tiers of its instance."""

    __slots__ = (
        "access",
        "arrived_tokens",
        "cached_tokens",
        "has_ended",
        "held",
        "jobs",
        "prompt_chunks",
        "restarts",
        "runs",
        "segments",
        "spare_tokens",
        "stored_chunks",
    )

    def __init__(self, runs: list[Run], access: Access, prompt_chunks: int) -> None:
        self.runs, self.access = runs, access
        """The chunks of its prompt that can be loaded, and what policies are told."""
        self.prompt_chunks = prompt_chunks
        """Whole chunks of its prompt: the last token is computed, so one of them may be no use to the prompt itself."""
        self.cached_tokens = 0
        """Tokens of the prompt that the engine's own cache had when it was looked up."""
        self.segments: list[TierSegment] = []
        """The parts of the prompt that are loaded."""
        self.arrived_tokens = 0
        """Tokens that were loaded and entered the engine's cache."""
        self.restarts = 0
        """How often memory had been lost when the loading began."""
        self.stored_chunks = 0
        """Chunks of the request that were computed and backed up."""
        self.jobs: list[CopyJob] = []
        """Copies of its chunks to memory, where its engine offloads by vLLM's rules."""
        self.held: list[Blocks] = []
        """The blocks that it held when it ended there."""
        self.has_ended = False
        """The connector of an engine that offloads knows of its end."""
        self.spare_tokens = 0
        """Tokens that were loaded, and are no hits: the last of a prompt, and those loaded after a preemption."""
