"""Measured against kvsim's own server: hits and counts are the workload's, times those that were simulated."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from live_server import MODEL, serving

from kvsim.measure import MeasuredRun, Sending, measure, server_of
from kvsim.measure.summary import summary_of
from kvsim.serve.metrics import Metrics
from kvsim.sim.online import RequestFacts
from kvsim.workload.words import word_of

FLAGS = ("--max-num-seqs", "64", "--enable-prompt-tokens-details")


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> list[RequestFacts]:
    """What was simulated of each request, as the server came to know it."""
    found: list[RequestFacts] = []
    plain = Metrics.finished

    def finished(self: Metrics, stream: object, of: RequestFacts) -> None:
        found.append(of)
        plain(self, stream, of)  # type: ignore[arg-type]

    monkeypatch.setattr(Metrics, "finished", finished)
    return found


def late_s(run: MeasuredRun, facts: list[RequestFacts]) -> list[tuple[float, float]]:
    """TTFT and E2E as read, minus as simulated; requests of equal lengths are matched in their order."""
    known = defaultdict(list)
    for fact in sorted(facts, key=lambda each: each.arrival_s):
        known[fact.prompt_tokens, fact.output_tokens].append(fact)
    found = []
    for row in run.answered:
        fact = known[row.prompt_tokens, row.output_tokens].pop(0)
        assert row.ttft_s is not None and row.e2e_s is not None
        found.append((row.ttft_s - fact.ttft_s, row.e2e_s - fact.e2e_s))
    return found


def test_times_are_the_simulated_ones(facts: list[RequestFacts]) -> None:
    """What is read has been simulated before; by how much later it is read depends on this machine."""
    workload = word_of("in=100-600,out=10-60").generate(60, 30.0, 7)
    with serving(MODEL, *FLAGS, speed=1.0) as live:
        run = measure(server_of(live.url), workload, Sending(metrics_interval_s=0.5))
    assert (len(run.answered), run.failures) == (60, {})
    late = np.array(late_s(run, facts[1:]))
    assert late.min() > -0.001 and np.median(late) < 0.25


def test_hits_are_the_workloads_in_turn_after_turn(facts: list[RequestFacts]) -> None:
    """Users of conversations: each turn finds its whole history cached, by its answers, the counters and the facts."""
    workload = word_of("in=40-90,out=20,turns=4,think=0").users(4, 40, 3)
    with serving(MODEL, *FLAGS) as live:
        run = measure(server_of(live.url), workload, Sending(metrics_interval_s=0.2))
    summary = summary_of(run)
    assert run.failures == {} and not [note for note in run.notes if "earlier answers" in note]
    by_row = {row.request_id: row for row in run.rows}
    ended: dict[int, int] = {}
    for request in workload:
        row, (chain, tokens) = by_row[request.request_id], request.pieces[-1]
        # The last token of an answer has no KV, and a prompt's last one is always computed.
        assert row.cached_tokens == min(ended.get(chain, 0), tokens - 1) // 16 * 16
        ended[chain] = tokens + request.output_tokens - 1
    hits = sum(row.cached_tokens or 0 for row in run.rows)
    assert hits > 0 and hits == sum(fact.cached_tokens for fact in facts[1:])
    assert summary.by_usage is not None and summary.by_metrics is not None
    assert summary.by_usage.hits == summary.by_metrics.hits == hits
    assert summary.by_metrics.queries == workload.prompt_tokens.sum()
