"""What stands in a design: which phases are compared, on which prompts, how often and in which order."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from kvsim.config.section import Count, Name, Positive, PositiveShare, Section, Whole

Compared = Literal["cache", "profile", "entry", "itself", "nothing"]
"""What the phases of a repeat differ in: the prefix cache; the cache, on a family and on its control; an HTTP server
and the engine in a process; nothing, to see the noise; or there is one phase alone."""
PHASES: dict[Compared, tuple[str, ...]] = {
    "cache": ("cold", "cache"),
    "profile": ("cold", "cache", "control_cold", "control_cache"),
    "entry": ("server", "in_process"),
    "itself": ("first", "second"),
    "nothing": ("run",),
}
"""In the order of ``cold_first``."""
Order = Literal["cold_first", "cache_first", "alternate"]
"""``alternate``: repeats of even number begin with the cold phase, others with the other."""
VARIED = (
    "requests",
    "concurrency",
    "rate_per_s",
    "prefix_tokens",
    "suffix_tokens",
    "output_tokens",
    "gpu_memory_utilization",
    "kv_budget_gb",
    "max_num_batched_tokens",
    "max_num_seqs",
    "block_size",
)
"""What ``vary`` may name: fields of a design, and flags of its server."""


class Search(Section):
    """The smallest value with which the server still starts."""

    key: Literal["gpu_memory_utilization", "kv_budget_gb"]
    low: Positive
    high: Positive
    within: Positive
    """The bracket at the end is at most so wide."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        return self


class Design(Section):
    """A file of ``experiments/lab``; its name is the file's."""

    question: Name
    server: Name
    """``vllm serve MODEL ...``."""
    gpu: Name
    compare: Compared = "cache"
    family: Name
    """A name in ``kvsim.lab.kv.families``."""
    control: Name | None = None
    """The family that a ``profile`` is compared with."""
    cold: Literal["unique_prompts", "caching_off"] = "caching_off"
    """How a cold phase finds nothing cached: prompts as long that share nothing, or an engine without cache."""
    order: Order = "cold_first"
    isolation: Literal["same_engine", "fresh_engine"] = "fresh_engine"
    """Whether the phases of a repeat meet one engine, or each its own."""
    warm_up: Literal["none", "same", "neutral"] = "none"
    """What each phase sends before what counts: nothing, its own prompts, or prompts of nobody's."""
    warm_up_requests: Count = 1
    prefix_tokens: Whole | None = None
    """``None``: the family's own."""
    suffix_tokens: Count | None = None
    output_tokens: Count = 16
    requests: Count = 16
    """How many of each phase count."""
    concurrency: Count | None = None
    rate_per_s: Positive | None = None
    """Neither: one request after the other."""
    repeats: Count = 5
    seed: Whole = 0
    vary: dict[str, Annotated[tuple[Any, ...], Field(min_length=1), Strict(False)]] = Field(default={}, max_length=2)
    """Values by name, of ``VARIED``: the design is run at each combination."""
    search: Search | None = None
    sets: dict[str, Any] = Field(default={}, alias="set")
    """Keys of kvsim's configuration, for what no server's line says; of simulated servers alone."""
    confidence: PositiveShare = 0.95

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.compare == "profile") != (self.control is not None):
            raise ValueError("control: a family is named there, and only there, where compare is 'profile'")
        if self.concurrency is not None and self.rate_per_s is not None:
            raise ValueError("concurrency and rate_per_s: one of both")
        if self.isolation == "same_engine" and self.compare in ("cache", "profile") and self.cold == "caching_off":
            raise ValueError("isolation: an engine that serves both phases has a cache in both; cold: unique_prompts")
        if self.isolation == "same_engine" and self.compare == "entry":
            raise ValueError("isolation: a server and a process have an engine each; allowed: fresh_engine")
        return self
