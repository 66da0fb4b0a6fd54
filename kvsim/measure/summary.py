"""A measurement in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.measure.result import COUNTERS, MeasuredRun, ServerMetrics
from kvsim.record.percentiles import distribution
from kvsim.record.plain import plain
from kvsim.record.result import Distribution


@dataclass(frozen=True)
class Hits:
    """Prompt tokens that were looked up, and found cached."""

    queries: float
    hits: float

    @property
    def share(self) -> float:
        """0 where nothing was looked up."""
        return self.hits / self.queries if self.queries else 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Times in seconds, of the requests that were answered; rates from the first request sent to the last token."""

    sent: int
    answered: int
    failures: dict[str, int]
    span_s: float
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    prompt_tokens_mean: float
    output_tokens_mean: float
    ttft_s: Distribution
    tpot_s: Distribution
    itl_s: Distribution
    e2e_s: Distribution
    by_usage: Hits | None
    """As the answers say; ``None``: they do not."""
    by_metrics: Hits | None
    """As the server's counters have it; ``None``: it has none."""
    external: Hits | None
    """Of tiers and connectors."""
    preemptions: float | None
    most_kv_usage: float | None
    most_running: float | None
    most_waiting: float | None

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = plain(self)
        for name in ("by_usage", "by_metrics", "external"):
            hits = getattr(self, name)
            if hits is not None:
                found[name]["share"] = hits.share
        return found


def summary_of(run: MeasuredRun) -> Summary:
    """The figures of a run."""
    rows = run.answered
    ends_s = [row.finish_s for row in rows if row.finish_s is not None]
    span_s = max(ends_s) - min(row.sent_s for row in run.rows) if ends_s else 0.0
    prompts, outputs = sum(row.prompt_tokens for row in rows), sum(row.output_tokens for row in rows)
    cached = [(row.prompt_tokens, row.cached_tokens) for row in rows if row.cached_tokens is not None]
    metrics = run.metrics
    return Summary(
        sent=len(run.rows),
        answered=len(rows),
        failures=run.failures,
        span_s=span_s,
        requests_per_s=_over(len(rows), span_s),
        prompt_tokens_per_s=_over(prompts, span_s),
        output_tokens_per_s=_over(outputs, span_s),
        prompt_tokens_mean=_over(prompts, len(rows)),
        output_tokens_mean=_over(outputs, len(rows)),
        ttft_s=_spread([row.ttft_s for row in rows]),
        tpot_s=_spread([row.tpot_s for row in rows]),
        itl_s=distribution(np.concatenate([np.zeros(0), *run.gaps_s()])),
        e2e_s=_spread([row.e2e_s for row in rows]),
        by_usage=Hits(sum(each[0] for each in cached), sum(each[1] for each in cached)) if cached else None,
        by_metrics=_hits(metrics, "prefix"),
        external=_hits(metrics, "external"),
        preemptions=metrics.counted("preemptions"),
        most_kv_usage=_most(metrics, "kv_usage"),
        most_running=_most(metrics, "running"),
        most_waiting=_most(metrics, "waiting"),
    )


def report_of(run: MeasuredRun) -> dict[str, Any]:
    """The run and its figures as JSON: everything but its rows and samples."""
    summary = summary_of(run)
    counted = {name: run.metrics.counted(name) for name in COUNTERS}
    return {
        "url": run.url,
        "model": run.model,
        "server": plain(run.server),
        "endpoint": run.endpoint,
        "workload": run.workload,
        "seed": run.seed,
        "started_at": run.started_at,
        "duration_s": run.duration_s,
        "requests": run.asked,
        "max_concurrency": run.max_concurrency,
        "incomplete": run.incomplete,
        "client_saturated": run.is_saturated,
        "client": plain(run.client),
        "measured": summary.dump(),
        "counted_by_server": plain(counted),
        "notes": list(run.notes),
    }


def _over(amount: float, of: float) -> float:
    return amount / of if of > 0 else 0.0


def _spread(values: list[float | None]) -> Distribution:
    return distribution(np.array([value for value in values if value is not None], dtype=np.float64))


def _hits(metrics: ServerMetrics, name: str) -> Hits | None:
    queries, hits = metrics.counted(f"{name}_queries"), metrics.counted(f"{name}_hits")
    return None if queries is None or hits is None or not queries else Hits(queries, hits)


def _most(metrics: ServerMetrics, name: str) -> float | None:
    return max((value for each in metrics.samples if (value := getattr(each, name)) is not None), default=None)
