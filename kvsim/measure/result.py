"""What a measurement found: a row a request, the server's own counters beside them, and how good the client was.

Times are seconds from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

OK, INTERRUPTED = "ok", "interrupted"


@dataclass(kw_only=True)
class RequestRow:
    """One request, as it was sent and answered."""

    request_id: int
    """Its row of the workload."""
    scheduled_s: float
    """When it was to be sent: at the workload's time, or when what it waited for was over."""
    sent_s: float
    prompt_tokens: int
    """As the server counted them; those of the workload where it does not say."""
    output_tokens: int = 0
    """Tokens that came."""
    cached_tokens: int | None = None
    """Prompt tokens that the server found cached; ``None``: it does not say."""
    first_token_s: float | None = None
    finish_s: float | None = None
    """The last token, or the failure."""
    status: str = OK
    """``ok``, or the kind of failure."""
    error: str = ""
    chunk_s: Sequence[float] = ()
    """When each piece of the answer came."""
    chunk_tokens: Sequence[int] = ()
    """Tokens of each."""
    asked_tokens: int = 0
    """Length of the answer that was asked for."""
    pieces: tuple[tuple[int, int], ...] = ()
    """The prompt as the workload has it; () where that is not known."""
    output_chain: int = -1
    session_id: int = -1

    @property
    def is_ok(self) -> bool:
        return self.status == OK

    @property
    def lag_s(self) -> float:
        """How much too late it was sent."""
        return self.sent_s - self.scheduled_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.sent_s

    @property
    def e2e_s(self) -> float | None:
        return self.finish_s - self.sent_s if self.finish_s is not None and self.is_ok else None

    @property
    def tpot_s(self) -> float | None:
        """(E2E - TTFT) / (n - 1); ``None`` for an answer of one token."""
        if not self.is_ok or self.first_token_s is None or self.finish_s is None or self.output_tokens < 2:
            return None
        return (self.finish_s - self.first_token_s) / (self.output_tokens - 1)

    @property
    def token_s(self) -> Floats:
        """When each token came; those of one piece of the answer at once."""
        return np.repeat(np.asarray(self.chunk_s, dtype=np.float64), np.asarray(self.chunk_tokens, dtype=np.int64))

    @property
    def prompt_planned(self) -> int:
        """Prompt tokens of the workload."""
        return sum(tokens for _, tokens in self.pieces) if self.pieces else self.prompt_tokens


@dataclass(frozen=True)
class MetricsReading:
    """What ``/metrics`` said at one moment, over all engines behind it; ``None`` where it does not say."""

    time_s: float
    kv_usage: float | None = None
    """Share of the KV cache that is taken, the mean over engines."""
    running: float | None = None
    waiting: float | None = None
    prefix_queries: float | None = None
    """Counters, from the server's start: prompt tokens looked up, and found."""
    prefix_hits: float | None = None
    external_queries: float | None = None
    """Those of tiers and connectors."""
    external_hits: float | None = None
    preemptions: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    finished: float | None = None
    """Requests that ended well."""


COUNTERS = (
    "prefix_queries",
    "prefix_hits",
    "external_queries",
    "external_hits",
    "preemptions",
    "prompt_tokens",
    "generation_tokens",
    "finished",
)


@dataclass(frozen=True)
class ServerMetrics:
    """``/metrics`` before, during and after the run; ``None``: the server has none, or not at that time."""

    before: MetricsReading | None = None
    after: MetricsReading | None = None
    samples: tuple[MetricsReading, ...] = ()

    def counted(self, name: str) -> float | None:
        """How far a counter went during the run."""
        values = [None if reading is None else getattr(reading, name) for reading in (self.before, self.after)]
        return None if values[0] is None or values[1] is None else float(values[1] - values[0])


@dataclass(frozen=True, kw_only=True)
class ClientFacts:
    """How well the client kept up."""

    version: str
    lag_p99_s: float
    """Sent minus scheduled."""
    lag_max_s: float
    loop_lag_p99_s: float
    """How late the event loop woke a task that only sleeps."""
    loop_lag_max_s: float
    cpu_share: float
    """CPU time of the process over the time of the run."""
    most_in_flight: int
    saturated: bool
    """Whether the client, and not the server, may have set the times: ``kvsim.measure.lag``."""


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """A workload that a server was sent, and what came of it."""

    rows: tuple[RequestRow, ...]
    """In the order of sending."""
    duration_s: float
    client: ClientFacts | None = None
    """``None``: another client made these rows."""
    metrics: ServerMetrics = ServerMetrics()
    url: str = ""
    """Without secrets."""
    model: str = ""
    workload: str = ""
    """In words."""
    seed: int | None = None
    endpoint: str = "completions"
    started_at: str = ""
    """ISO 8601, UTC."""
    asked: int = 0
    """Requests of the workload; rows are those that were sent."""
    max_concurrency: int | None = None
    waits: bool = False
    """Whether requests waited for answers to others."""
    timeout_s: float | None = None
    incomplete: bool = False
    """Interrupted: what was measured until then."""
    made_by: str = "kvsim measure"
    notes: tuple[str, ...] = ()
    """What a reader of these figures may not expect."""
    server: Mapping[str, object] = field(default_factory=dict)
    """What the server said of itself: ``engine``, ``version``, ``max_model_len``."""

    @property
    def answered(self) -> tuple[RequestRow, ...]:
        return tuple(row for row in self.rows if row.is_ok)

    @property
    def failures(self) -> dict[str, int]:
        """How many of each kind, the most frequent first."""
        found: dict[str, int] = {}
        for row in self.rows:
            if not row.is_ok:
                found[row.status] = found.get(row.status, 0) + 1
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))

    @property
    def is_saturated(self) -> bool:
        return self.client is not None and self.client.saturated

    def gaps_s(self) -> Iterator[Floats]:
        """Times between the tokens of each answer."""
        return (np.diff(row.token_s) for row in self.rows if row.is_ok)
