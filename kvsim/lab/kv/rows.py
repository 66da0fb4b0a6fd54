"""From what a client saw of requests to the rows of a run, the same for every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kvsim.lab.kv.expected import Expected
from kvsim.lab.kv.phases import Phase, Repeat
from kvsim.lab.kv.trial import Counters, PhaseRow, RequestRow
from kvsim.record.percentiles import percentiles
from kvsim.units import MILLI

OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as its client saw it; seconds of any one clock."""

    sent_s: float
    first_token_s: float | None
    finish_s: float | None
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    queue_s: float | None = None
    status: str = OK


@dataclass(frozen=True, kw_only=True)
class ServerSide:
    """What the server's own counters say of a phase."""

    counters: Counters = "none"
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    preemptions: int | None = None
    kv_tokens: int | None = None
    kv_usage_max: float | None = None


@dataclass
class Rows:
    """Rows that have come so far."""

    phases: list[PhaseRow] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)

    def add(
        self, repeat: Repeat, phase: Phase, seen: Sequence[Seen], expected: Expected | None, server: ServerSide
    ) -> None:
        """A phase that ran. ``seen``: its requests by their places; ``expected`` as the audit has it."""
        hits = expected.hits if expected is not None else (None,) * len(seen)
        first_s = min((each.sent_s for each in seen), default=0.0)
        own = [
            _request(repeat, phase, place, each, hit, first_s)
            for place, (each, hit) in enumerate(zip(seen, hits, strict=True))
        ]
        self.requests += own
        self.phases.append(_phase(repeat, phase, own, None if expected is None else expected.total, server))

    def add_unstarted(self, repeat: Repeat, phases: Sequence[Phase], why: str) -> None:
        """Phases whose server did not come up."""
        self.phases += [
            PhaseRow(
                point=repeat.point,
                at=repeat.at,
                repeat=repeat.repeat,
                phase=phase.name,
                order=phase.order,
                family=phase.family,
                requests=len(phase.counted),
                started=False,
                failure=" ".join(why.split()),
            )
            for phase in phases
        ]


def _request(repeat: Repeat, phase: Phase, place: int, seen: Seen, expected: int | None, first_s: float) -> RequestRow:
    ok = seen.status == OK
    first, finish = seen.first_token_s, seen.finish_s
    later = seen.output_tokens - 1
    return RequestRow(
        point=repeat.point,
        repeat=repeat.repeat,
        phase=phase.name,
        request=place,
        prompt_tokens=seen.prompt_tokens,
        output_tokens=seen.output_tokens,
        cached_tokens=seen.cached_tokens,
        expected_hit_tokens=expected,
        sent_s=_s(seen.sent_s - first_s),
        first_token_s=None if first is None else _s(first - first_s),
        finish_s=None if finish is None else _s(finish - first_s),
        ttft_ms=None if first is None or not ok else _ms(first - seen.sent_s),
        tpot_ms=_ms((finish - first) / later)
        if ok and first is not None and finish is not None and later > 0
        else None,
        e2e_ms=None if finish is None or not ok else _ms(finish - seen.sent_s),
        queue_ms=None if seen.queue_s is None else _ms(seen.queue_s),
        status=seen.status,
    )


def _phase(
    repeat: Repeat, phase: Phase, rows: Sequence[RequestRow], expected: int | None, server: ServerSide
) -> PhaseRow:
    done = [row for row in rows if row.status == OK]
    ends_s = [row.finish_s for row in done if row.finish_s is not None]
    duration_s = max(ends_s) if ends_s else None
    cached = [row.cached_tokens for row in done if row.cached_tokens is not None]
    ttft, e2e = _known([row.ttft_ms for row in done]), _known([row.e2e_ms for row in done])
    return PhaseRow(
        point=repeat.point,
        at=repeat.at,
        repeat=repeat.repeat,
        phase=phase.name,
        order=phase.order,
        family=phase.family,
        requests=len(phase.counted),
        completed=len(done),
        failure=_failure(rows),
        duration_s=duration_s,
        requests_per_s=len(done) / duration_s if duration_s else None,
        output_tokens_per_s=sum(row.output_tokens for row in done) / duration_s if duration_s else None,
        ttft_mean_ms=_mean(ttft),
        ttft_p95_ms=_p95(ttft),
        tpot_mean_ms=_mean(_known([row.tpot_ms for row in done])),
        e2e_mean_ms=_mean(e2e),
        e2e_p95_ms=_p95(e2e),
        prompt_tokens=sum(row.prompt_tokens for row in done),
        cached_tokens=sum(cached) if done and len(cached) == len(done) else None,
        expected_hit_tokens=expected if len(done) == len(rows) else None,
        prefix_queries=server.prefix_queries,
        prefix_hits=server.prefix_hits,
        counters=server.counters,
        preemptions=server.preemptions,
        kv_tokens=server.kv_tokens,
        kv_usage_max=server.kv_usage_max,
    )


def _failure(rows: Sequence[RequestRow]) -> str:
    kinds = Counter(row.status for row in rows if row.status != OK)
    if not kinds:
        return ""
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return f"{sum(kinds.values())} of {len(rows)} requests failed: {told}"


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _p95(values: Sequence[float]) -> float | None:
    return float(percentiles(np.asarray(values, dtype=np.float64), 95.0)) if values else None


def _s(seconds: float) -> float:
    """To the nanosecond: what differs below is the rounding of times on clocks that have run for longer."""
    return round(seconds, 9) + 0.0


def _ms(seconds: float) -> float:
    return round(seconds / MILLI, 6) + 0.0
