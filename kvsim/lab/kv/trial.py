"""What every backend leaves of a design: a row a phase and a row a request that counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Counters = Literal["direct", "none"]
"""How hits of a phase are known from the server: by its counters before and after; not at all."""


@dataclass(frozen=True, kw_only=True)
class PhaseRow:
    """One phase of one repeat at one point of the design; what could not be measured is ``None``."""

    point: int
    """From 0 on, in the order of the design's combinations."""
    at: Mapping[str, float] = field(default_factory=dict)
    """What is varied, and its value here."""
    repeat: int
    phase: str
    """A name in ``kvsim.lab.kv.design.PHASES``."""
    order: int
    """Place among the phases of the repeat."""
    family: str
    requests: int
    completed: int = 0
    started: bool = True
    """Whether the server came up with what the point asks for."""
    failure: str = ""
    """Why not, or why requests failed; in a line."""
    duration_s: float | None = None
    """From the first request that counted to the last token."""
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    ttft_mean_ms: float | None = None
    ttft_p95_ms: float | None = None
    tpot_mean_ms: float | None = None
    e2e_mean_ms: float | None = None
    e2e_p95_ms: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """As the answers tell, summed."""
    expected_hit_tokens: int | None = None
    """By the audit's arithmetic; ``None``: it depends on what is evicted, or on who comes first."""
    prefix_queries: float | None = None
    """Tokens looked up and found, by the server's counters over what counted."""
    prefix_hits: float | None = None
    counters: Counters = "none"
    preemptions: int | None = None
    kv_tokens: int | None = None
    """Tokens that the KV cache holds."""
    kv_usage_max: float | None = None
    """The largest share of it that was seen taken."""


@dataclass(frozen=True, kw_only=True)
class RequestRow:
    """One request that counted. Times are seconds from the phase's first."""

    point: int
    repeat: int
    phase: str
    request: int
    """Place in its phase; equal places of two phases of a repeat are a pair."""
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    expected_hit_tokens: int | None
    sent_s: float
    first_token_s: float | None
    finish_s: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    """``None``: an answer of one token has none."""
    e2e_ms: float | None
    queue_ms: float | None = None
    """Until the first step with some of the prompt; a client cannot see it."""
    status: str = "ok"


@dataclass(frozen=True, kw_only=True)
class Trials:
    """What came of a design, or of some of its repeats."""

    name: str
    design: Mapping[str, object]
    """As the file has it, with every default."""
    backend: str
    """``simulated``, ``url``, ``local`` or ``modal``."""
    phases: tuple[PhaseRow, ...]
    requests: tuple[RequestRow, ...]
    server: Mapping[str, object] = field(default_factory=dict)
    """What is known of it: its line, what it says of itself; without secrets."""
    notes: tuple[str, ...] = ()
