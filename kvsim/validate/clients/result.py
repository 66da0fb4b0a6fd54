"""One load on one server, as its client saw it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvsim.errors import ConfigError
from kvsim.validate.clients.traffic import Traffic

if TYPE_CHECKING:
    from kvsim.validate.clients.requests import Requests

PERCENTS = ("p50", "p90", "p95", "p99")
MOST_FAILED = 0.05
"""Share of the requests sent. Beyond it the figures are those of survivors, and nothing to compare with."""


@dataclass(frozen=True)
class ClientResult:
    """Times in seconds, over the requests that were answered; ``None`` and absent where nothing was recorded.

    Where none was answered, lengths and rates are 0.
    """

    name: str
    client: str
    traffic: Traffic
    """What was sent."""
    completed: int
    failures: int
    requests_per_s: float
    """Answered."""
    output_tokens_per_s: float | None
    ttft_s: dict[str, float]
    """``mean`` and percentiles."""
    e2e_s: dict[str, float]
    tpot_mean_s: float | None
    """The mean over requests of (E2E - TTFT) / (tokens - 1), whatever the client calls so."""
    itl_s: dict[str, float]
    """``mean``: sum(E2E - TTFT) / sum(tokens - 1); percentiles of the gaps between tokens."""
    definitions: tuple[str, ...]
    """What the client's own figures are, and how they were made into these, or why they were not."""
    model: str | None = None
    """The model as the client names it."""
    goodput_requests_per_s: float | None = None
    assumed: tuple[str, ...] = ()
    """What the client does that the file does not say."""
    rows: Requests | None = field(default=None, compare=False, repr=False)
    """The requests one by one, as far as the file has them."""

    def __post_init__(self) -> None:
        if self.completed + self.failures > self.traffic.requests:
            answered = f"{self.completed:,} answered and {self.failures:,} failed"
            raise ConfigError(f"{self.name}: {answered} of {self.traffic.requests:,} requests sent")
        if self.completed and self.traffic.prompt_tokens <= 0:
            raise ConfigError(f"{self.name}: prompts of 0 tokens: the client did not count them")
        if self.completed and self.traffic.output_tokens <= 0:
            raise ConfigError(f"{self.name}: answers of 0 tokens: the client did not count them")

    @property
    def failed_share(self) -> float:
        """Failures over the requests sent."""
        return self.failures / self.traffic.requests if self.completed else 1.0

    @property
    def comparable(self) -> bool:
        return self.failed_share <= MOST_FAILED

    def dump(self) -> dict[str, Any]:
        """The load as JSON has it: what was sent beside what came of it, on one level."""
        traffic, rate = self.traffic, self.traffic.rate_per_s
        return {
            "name": self.name,
            "client": self.client,
            "model": self.model,
            "requested_rate_per_s": rate if math.isfinite(rate) else None,
            "arrivals": "recorded" if traffic.is_recorded else "described",
            "lengths": "described" if traffic.rows is None else "recorded",
            "gaps": traffic.gaps,
            "max_in_flight": traffic.max_in_flight,
            "timeout_s": traffic.timeout_s,
            "prompts": None if traffic.shared is None else traffic.shared.words,
            "sent": traffic.requests,
            "requests": self.completed,
            "failures": self.failures,
            "prompt_tokens_mean": traffic.prompt_tokens,
            "output_tokens_mean": traffic.output_tokens,
            "requests_per_s": self.requests_per_s,
            "output_tokens_per_s": self.output_tokens_per_s,
            "goodput_requests_per_s": self.goodput_requests_per_s,
            "ttft_s": self.ttft_s,
            "e2e_s": self.e2e_s,
            "tpot_mean_s": self.tpot_mean_s,
            "itl_s": self.itl_s,
            "definitions": list(self.definitions),
            "assumed": list(self.assumed),
        }
