"""The sections of a report, in the order in which its JSON has them: what its readers read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvsim.capacity.load_search import Load
from kvsim.config import Config, dump
from kvsim.failures import FailedPart
from kvsim.modes.cluster import DeployedCluster, PdCluster, TieredCluster
from kvsim.plan.mode import ModeName
from kvsim.reasons.reason import Reason
from kvsim.record.figures import SystemSummary
from kvsim.record.plain import OMITTED, written
from kvsim.study.answer import StudyAnswer


@dataclass(frozen=True, kw_only=True)
class Run:
    """How the run went on this machine: the only section in which two runs of one seed differ."""

    version: str
    engine: str
    """``compiled`` or ``pure``."""
    mode: ModeName
    preset: str | None
    seed: int
    started_at: str
    """ISO 8601, to the second."""
    cpu_s: float
    """CPU time of the whole process, of its finished children and of those that simulated for it."""
    wall_s: float
    peak_rss_bytes: int
    sim_cpu_s: float
    """CPU time of simulating the results alone."""
    requests_per_cpu_s: float | None
    events: int
    status: str
    """``complete`` or ``incomplete``."""
    failures: tuple[FailedPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the step times are known, and how far they can be trusted; ``None`` is what no profile says."""

    profile: str | None
    method: str
    sources: object
    validity: object
    readiness: str
    warnings: tuple[str, ...]
    description: str | None
    provenance: object
    fit_error: object
    notes: tuple[str, ...]
    level: str
    """``measured``, ``scaled`` from the nearest that was, ``roofline``, or ``configured``: what the user gave."""


@dataclass(frozen=True, kw_only=True)
class AskedRequests:
    """Requests that were asked for beside a mode's own: all that it takes to serve them again."""

    workload: str | None
    """A word, or a trace file that a closed loop takes its requests from."""
    trace: str | None
    reading: Mapping[str, object]
    """Fields of :class:`kvsim.workload.reading.Reading` that are not as they stand there."""
    concurrency: int | None
    requests: int | None
    replicas: int | None
    model: str | None = field(default=None, metadata=OMITTED)
    """Whose part of the trace was served, where it was dealt to several models; no key where it was not."""


@dataclass(frozen=True, kw_only=True)
class WorkloadFacts:
    """What was served; rates of an infinite cache are ``None`` where they are not known."""

    source: str
    format: str
    sha256: str | None
    requests: int
    span_s: float
    """From the first arrival to the last."""
    prompt_tokens: int
    output_tokens: int
    infinite_cache_hit_rate: float | None
    lint: tuple[str, ...]
    notes: tuple[str, ...]
    infinite_cache_hit_rate_full_blocks: float | None
    infinite_cache_hit_rate_tokens: float | None
    hash_block_tokens: int | None
    load: Load | None
    """``None``: it ran at its own rate, or at one that was asked for."""
    users: int | None
    """Requests in flight at most, where each waits for another; ``None``: they come at their times."""
    asked_requests_per_s: float | None
    """The rate that was asked for, which random arrivals meet in the mean alone; ``None``: a load was, or nothing."""
    window_requests_per_s: float | None = field(default=None, metadata=OMITTED)
    """Requests/s that came in the measured window; ``None``: about as many as over the whole run, or nobody knows of a
    window that is not the whole run."""
    asked: AskedRequests | None = field(default=None, metadata=OMITTED)
    """No key where the mode served its own traffic."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The server's command line that the configuration was made of, as it was understood."""

    line: str
    engine: str
    """``vllm`` or ``sglang``."""
    model: str
    arguments: Mapping[str, object]
    """By vLLM's names, those that were given."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    """What of it changes serving, and is not modelled."""


@dataclass(frozen=True, kw_only=True)
class Sections:
    """All that is known at the end of a run, for a terminal, a file or a picture."""

    run: Run
    config: Config = field(metadata=written(dump))
    calibration: Calibration
    workload: WorkloadFacts
    cluster: PdCluster | TieredCluster | DeployedCluster
    results: tuple[SystemSummary, ...]
    why: tuple[Reason, ...] = ()
    """Why they came out as they did, what explains most first."""
    studies: Mapping[str, StudyAnswer] | None = field(default=None, metadata=OMITTED)
    """By section; no key where none were made."""
    launch: Launch | None = field(default=None, metadata=OMITTED)
    """No key where no command line was given."""
