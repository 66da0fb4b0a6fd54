"""What ``measure`` says of a run, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.cli.validate_text import figure, wrapped
from kvsim.measure.lag import MOST_CPU, MOST_LAG_S
from kvsim.measure.result import ClientFacts, MeasuredRun
from kvsim.measure.summary import Hits, Summary, summary_of
from kvsim.record.result import Distribution

_MS = 1e3


def told(run: MeasuredRun, *, quiet: bool) -> str:
    """The whole text; ``quiet``: times, and what went wrong, alone."""
    found = summary_of(run)
    parts = [] if quiet else [*_sent(run, found)]
    parts += _wrong(run, found)
    if found.answered:
        parts += _times(found)
        if not quiet:
            parts += ["\n", *_rates(found), *_cached(found), *_server(found)]
    if not quiet:
        parts += [wrapped(f"note: {note}") for note in run.notes]
    return "".join(parts)


def _sent(run: MeasuredRun, found: Summary) -> Iterator[str]:
    engine, version = run.server.get("engine"), run.server.get("version")
    name = " ".join(str(each) for each in (engine, version) if each)
    yield wrapped(f"server: {run.url}, {run.model}{f' on {name}' if name else ''}")
    seed = "" if run.seed is None else f", seed {run.seed}"
    count = f"{found.sent:,} requests" if found.sent == run.asked else f"{found.sent:,} of {run.asked:,} requests"
    flight = "" if run.client is None else f", at most {run.client.most_in_flight:,} in flight"
    yield wrapped(f"sent: {run.workload}{seed}: {count} in {run.duration_s:,.1f} s{flight}")
    if run.client is not None:
        yield _client(run.client)


def _client(client: ClientFacts) -> str:
    lag = f"sent {client.lag_p99_s * _MS:.2f} ms late at p99 (at most {client.lag_max_s * _MS:.1f})"
    loop = f"event loop {client.loop_lag_p99_s * _MS:.2f} ms late at p99 (at most {client.loop_lag_max_s * _MS:.1f})"
    return wrapped(f"client: {lag}, {loop}, {client.cpu_share:.0%} of a core")


def _wrong(run: MeasuredRun, found: Summary) -> Iterator[str]:
    if run.incomplete:
        yield wrapped(f"incomplete: interrupted after {run.duration_s:,.1f} s")
    if run.client is not None and run.client.saturated:
        yield wrapped(f"warning: the client was saturated: {_why(run.client)}; its times may be its own")
    if found.failures:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.failures.items())
        yield wrapped(f"failed: {found.sent - found.answered:,} of {found.sent:,} requests: {kinds}")
        for kind in found.failures:
            text = next((row.error for row in run.rows if row.status == kind and row.error), "")
            if text:
                yield wrapped(f"  {kind}: {text}")


def _why(client: ClientFacts) -> str:
    limit = f"over {MOST_LAG_S * _MS:g} ms"
    found = []
    if client.lag_p99_s > MOST_LAG_S:
        found.append(f"requests were sent {limit} late")
    if client.loop_lag_p99_s > MOST_LAG_S:
        found.append(f"its event loop woke {limit} late")
    if client.cpu_share > MOST_CPU:
        found.append(f"it took over {MOST_CPU:.0%} of a core")
    return " and ".join(found)


def _times(found: Summary) -> Iterator[str]:
    yield f"\n  {'':<12}{'mean':>12}{'p50':>12}{'p90':>12}{'p99':>12}\n"
    rows = (
        ("TTFT (ms)", found.ttft_s, _MS),
        ("TPOT (ms)", found.tpot_s, _MS),
        ("ITL (ms)", found.itl_s, _MS),
        ("E2E (s)", found.e2e_s, 1.0),
    )
    for name, values, scale in rows:
        if values.count:
            yield f"  {name:<12}{''.join(figure(each * scale, 12) for each in _shown(values))}\n"


def _shown(values: Distribution) -> tuple[float, ...]:
    return values.mean, values.p50, values.p90, values.p99


def _rates(found: Summary) -> Iterator[str]:
    tokens = f"{found.prompt_tokens_per_s:,.0f} prompt tokens/s, {found.output_tokens_per_s:,.1f} output tokens/s"
    each = f"{found.prompt_tokens_mean:,.0f} tokens in and {found.output_tokens_mean:,.1f} out each"
    yield wrapped(f"answered: {found.answered:,}, {found.requests_per_s:.4g} requests/s, {tokens}; {each}")


def _cached(found: Summary) -> Iterator[str]:
    said = []
    if found.by_usage is not None:
        said.append(f"{_hits(found.by_usage)} by the answers' usage")
    if found.by_metrics is not None:
        said.append(f"{_hits(found.by_metrics)} by /metrics")
    if found.external is not None:
        said.append(f"{_hits(found.external)} in tiers below")
    yield wrapped(f"cached: {'; '.join(said) if said else 'the server does not say'}")


def _hits(hits: Hits) -> str:
    return f"{hits.share:.1%} of {hits.queries:,.0f} prompt tokens"


def _server(found: Summary) -> Iterator[str]:
    said = []
    if found.most_kv_usage is not None:
        said.append(f"KV cache up to {found.most_kv_usage:.1%} taken")
    if found.most_running is not None:
        said.append(f"up to {found.most_running:,.0f} running")
    if found.most_waiting is not None:
        said.append(f"up to {found.most_waiting:,.0f} waiting")
    if found.preemptions is not None:
        said.append(f"{found.preemptions:,.0f} preemptions")
    if said:
        yield wrapped(f"/metrics: {', '.join(said)}")
