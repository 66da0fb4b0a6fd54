"""What is asked: which deployment of a server on at most so many GPUs, for which requests and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kvsim.capacity.sources import WordSource, check_rate
from kvsim.config import LoadedConfig
from kvsim.errors import ConfigError
from kvsim.launch import LaunchLine
from kvsim.plan.deployment import load_deployment
from kvsim.recommend.slo import Slo
from kvsim.spec.tier_kinds import TIERS
from kvsim.workload.traffic import TraceSource

MOST_GPUS = 512
"""Every split of more would take longer to look through than to simulate."""
Objective = Literal["gpus", "latency", "rate"]
OBJECTIVES: dict[Objective, str] = {
    "gpus": "the fewest GPUs that keep the SLO at the rate, and of these the farthest from its limits",
    "latency": "the farthest from the limits of the SLO at the rate, on all the GPUs",
    "rate": "the largest rate within the SLO, on all the GPUs",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A server's line, whose arguments hold for every candidate, and what is to be found for it.

    ``gpus``: the most there are; ``None``: ``recommend.most_gpus``. ``rate_per_s``: ``None`` asks for the largest.
    ``tiers``: memory below the GPUs that is tried beside none. ``searches_rate``: also look for the winner's largest
    rate. Raises ``ConfigError`` for what contradicts itself.
    """

    words: str
    launch: LaunchLine
    source: TraceSource | WordSource
    gpu: str | None = None
    gpus: int | None = None
    rate_per_s: float | None = None
    objective: Objective | None = None
    e2e_ms: float | None = None
    tiers: tuple[str, ...] = ()
    searches_rate: bool = True
    profile: Path | None = None
    sets: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if self.launch.engine != "vllm":
            raise ConfigError("recommend reads lines of vLLM, whose flags it gives back; this one starts SGLang")
        if self.rate_per_s is not None:
            check_rate(self.rate_per_s, "--rate")
        if self.rate_per_s is None and self.objective in ("gpus", "latency"):
            raise ConfigError(f"--objective {self.objective} needs --rate: how many requests a second are to be served")
        if self.rate_per_s is not None and self.objective == "rate":
            raise ConfigError("--objective rate looks for the largest rate, and --rate gives one; leave one out")
        if self.rate_per_s is None and self.gpus is None:
            raise ConfigError("neither --rate nor --gpus: give the rate to serve, or the GPUs there are")
        if self.gpus is not None and self.gpus > MOST_GPUS:
            raise ConfigError(f"--gpus is {self.gpus}; allowed: 1 to {MOST_GPUS}: a larger cluster is several such")
        known = [kind.name for kind in TIERS]
        for tier in self.tiers:
            if tier not in known:
                raise ConfigError(f"--tiers has {tier!r}; known: {', '.join(known)}")

    @property
    def goal(self) -> Objective:
        """The objective, or what the other flags make it."""
        return self.objective or ("rate" if self.rate_per_s is None else "gpus")

    def load(self) -> LoadedConfig:
        """One server as the line has it: the settings that all candidates share. Raises ``ConfigError``."""
        return load_deployment(self.launch, gpu=self.gpu, profile=self.profile, sets=self.sets)

    def slo(self, loaded: LoadedConfig) -> Slo:
        limits = loaded.config.slo
        return Slo(ttft_ms=limits.ttft_ms, tpot_ms=limits.tpot_ms, e2e_ms=self.e2e_ms, share=limits.share)
