"""What ``validate live`` says on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kvsim.live.compare import Comparison, Hits, Metric, Part
from kvsim.live.validated import Validated
from kvsim.study.intervals import Interval

TITLES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
Row = tuple[str, float | None, float | None, tuple[float | None, ...]]
"""Name, measured, predicted, errors in percent."""


def head(found: Validated) -> Iterator[str]:
    """Sentences on what is compared."""
    described, plan = found.deployment.described, found.deployment.plan
    settings = plan.colocated_settings
    runs = found.best.runs
    requests = sum(len(run) for run in runs)
    version = f"vLLM {described.version}" if described.version else "an engine of an unknown version"
    model = described.model.rpartition("/")[2]
    several = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    yield f"measured: {requests:,} answered requests in {several} of {model}, {version}"
    told = ", ".join(described.sources) or "defaults"
    yield (
        f"predicted: {settings.num_blocks + 1:,} blocks of {settings.block_size} tokens, {settings.max_num_seqs:,} "
        f"sequences and {settings.max_num_batched_tokens:,} tokens a step (by {told}); {step_times(found)}"
    )


def step_times(found: Validated) -> str:
    """How they are known."""
    calibration = found.calibration
    if calibration is None:
        return found.deployment.step_times
    count = int(sum(chosen.sum() for chosen in calibration.learned))
    if calibration.is_whole:
        return f"step times fitted whole to the first {count:,} requests"
    factor, host_s = calibration.values["factor"], calibration.values["host_s"]
    return (
        f"{found.deployment.step_times} times {factor:.3f} and {host_s * 1e3:.2f} ms a step, fitted to the first "
        f"{count:,} requests"
    )


def fitted(found: Validated) -> Iterator[str]:
    """The numbers of a calibration."""
    if found.calibration is None:
        return
    front_ms = found.calibration.fitted.front_end_s * 1e3
    if not found.calibration.is_whole:
        yield f"outside the engine: {front_ms:.1f} ms a request"
        return
    values = found.calibration.values
    yield (
        f"a step: {values['const_s'] * 1e3:.2f} ms, {values['p1_s_per_token'] * 1e6:.1f} us a token, "
        f"{values['s_s_per_seq'] * 1e6:.0f} us a sequence, {values['a_s_per_kv_token'] * 1e9:.0f} ns a KV token read, "
        f"{values['b_s_per_token2'] * 1e9:.2f} ns a pair of prompt tokens; outside the engine {front_ms:.1f} ms a "
        "request"
    )


def rows(part: Part) -> Iterator[Row]:
    """The latencies of a part: milliseconds, and errors of mean, 50th, 90th and 99th percentile and of each request."""
    for name, metric in part.metrics.items():
        errors = metric.errors
        each = (errors.mean_pct, errors.p50_pct, errors.p90_pct, errors.p99_pct, errors.mape_pct)
        yield TITLES[name], metric.measured_ms, metric.predicted_ms, each
    if part.itl is not None:
        found = part.itl
        gaps = tuple(found.error_pct.get(key) for key in ("mean", "p50", "p90", "p99"))
        yield "ITL", found.measured_ms["mean"], found.predicted_ms["mean"], (*gaps, None)


def interval_words(metric: Metric) -> str | None:
    """The error of the mean with its interval over runs; ``None`` for one run."""
    return _interval(metric.error_pct)


def _interval(found: Interval) -> str | None:
    if not math.isfinite(found.mean) or not math.isfinite(found.half_width):
        return None
    return f"{found.mean:+.1f} +- {found.half_width:.1f}%"


def over_runs(part: Part) -> str | None:
    """One line with the intervals of all latencies; ``None`` for one run."""
    found = {name: interval_words(metric) for name, metric in part.metrics.items()}
    known = [f"{TITLES[name]} {words}" for name, words in found.items() if words is not None]
    return f"errors of means over runs, 95%: {', '.join(known)}" if known else None


def hit_words(hits: Hits | None) -> str:
    """Cached tokens in all, and how many requests hit just as many."""
    if hits is None:
        return "cached tokens: the server does not tell them"
    return (
        f"cached tokens: {hits.measured_tokens:,} measured, {hits.predicted_tokens:,} predicted; the same in "
        f"{hits.equal_share:.1%} of {hits.requests:,} requests"
    )


def counter_words(found: Comparison) -> Iterator[str]:
    """The server's own counters beside the simulated ones, over all runs."""
    names = dict.fromkeys(each.name for each in found.counters)
    for name in names:
        those = [each for each in found.counters if each.name == name]
        measured, predicted = sum(each.measured for each in those), sum(each.predicted for each in those)
        yield f"{name}: {measured:,.0f} counted by the server, {predicted:,.0f} predicted"
