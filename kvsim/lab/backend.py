"""What a lab asks, and of whom: a server's line, what it is served and how fast, answered by any backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kvsim.record.binned import Floats
from kvsim.record.figures import Quantiles
from kvsim.units import MILLI

if TYPE_CHECKING:
    import polars as pl


SIMULATED = "simulated"
"""The backend of this package."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One run: a server's command line and the requests of a benchmark's client.

    Without a rate and without a concurrency all requests come at once, as with ``--request-rate inf``.
    """

    line: str
    """``vllm serve MODEL ...`` or ``sglang serve ...``."""
    gpu: str
    workload: str
    """In a word, as ``kvsim predict --workload`` takes it."""
    requests: int
    rate_per_s: float | None = None
    """Requests a second, at random."""
    concurrency: int | None = None
    """Users who send their next request when the last has ended."""
    instances: int = 1
    """Such servers, behind one router."""
    sets: tuple[str, ...] = ()
    """What no server's line says, as ``section.key=value``: a router's rule, a drafter's luck."""
    keeps_steps: bool = False
    """Whether steps and token times are wanted, which a client cannot see."""

    @property
    def rate_word(self) -> str:
        """As a benchmark's client is told it."""
        return "inf" if self.rate_per_s is None else f"{self.rate_per_s:g}"


@dataclass(frozen=True, kw_only=True)
class Served:
    """What came of one run, request by request; all of them count, as in a benchmark's client."""

    asked: Asked
    requests: pl.DataFrame
    """A row a completed request: ``arrival_s, first_token_s, finish_s, prompt_tokens, output_tokens, hit_tokens,
    loaded_tokens, preemptions, queue_s`` at the least."""
    itl_ms: Quantiles
    kv_tokens: int | None
    """Tokens that the KV caches of all instances hold; ``None``: nobody knows."""
    gaps_s: Floats | None = None
    """With ``keeps_steps``: the time of each output token behind the first, and since the one before; two columns."""
    steps: pl.DataFrame | None = None
    """With ``keeps_steps``: a row a span of equal steps, as in ``kvsim.record.frames``."""

    def _column(self, name: str) -> Floats:
        return np.asarray(self.requests[name].to_numpy(), dtype=np.float64)

    @property
    def ttft_ms(self) -> Floats:
        return (self._column("first_token_s") - self._column("arrival_s")) / MILLI

    @property
    def e2e_ms(self) -> Floats:
        return (self._column("finish_s") - self._column("arrival_s")) / MILLI

    @property
    def queue_ms(self) -> Floats:
        """Until the first step that computes something of the prompt."""
        return self._column("queue_s") / MILLI

    @property
    def tpot_ms(self) -> Floats:
        """(E2E - TTFT) / (n - 1) of each answer of two tokens or more."""
        later = self._column("output_tokens") - 1
        longer = later > 0
        return np.asarray((self.e2e_ms - self.ttft_ms)[longer] / later[longer], dtype=np.float64)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last token."""
        return float(self._column("finish_s").max() - self._column("arrival_s").min())

    @property
    def requests_per_s(self) -> float:
        return len(self.requests) / self.duration_s

    @property
    def output_tokens_per_s(self) -> float:
        return float(self._column("output_tokens").sum()) / self.duration_s

    @property
    def hit_share(self) -> float:
        """The share of all prompt tokens whose KV a cache had."""
        return float(self._column("hit_tokens").sum() / self._column("prompt_tokens").sum())

    @property
    def loaded_share(self) -> float:
        """The share of all prompt tokens whose KV came from memory below the GPU."""
        return float(self._column("loaded_tokens").sum() / self._column("prompt_tokens").sum())

    @property
    def preemptions(self) -> int:
        return int(self._column("preemptions").sum())


class Backend(Protocol):
    """Who answers: a simulation, or a client of servers that run."""

    @property
    def name(self) -> str:
        """``simulated``, ``url`` ...: stands in the JSON of what is found."""

    def serve(self, asked: Sequence[Asked]) -> list[Served]:
        """What comes of each, in their order. Raises a ``KvsimError`` for what cannot be served."""
