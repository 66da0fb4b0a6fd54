"""Workload files that are drawn: the same kind, number and seed give the same bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kvsim.lab.kv.queue.workload_file import QueuedRequest, QueuedRequests

SHARED_TOKENS = {"assistant": 512, "support": 768, "coder": 1024}
"""Groups of chats by their system prompt."""
DOCUMENT_SHARE, GROUPED_SHARE, DEADLINE_SHARE = 0.25, 0.5, 0.5
MEAN_GAP_MS = 250.0
BURST_REQUESTS, BURST_GAP_MS, IN_BURST_GAP_MS = 12, 6000.0, 15.0


def mixed(requests: int, seed: int) -> QueuedRequests:
    """Short chats, half of them of a group with one system prompt, and long documents; half of all have deadlines.
    Arrivals at random."""
    draw = np.random.default_rng(seed)
    arrivals_ms = np.cumsum([0.0, *draw.exponential(MEAN_GAP_MS, requests - 1)])
    drawn = [_request(draw, place, float(at_ms)) for place, at_ms in enumerate(arrivals_ms)]
    return QueuedRequests(name=f"mixed-{requests}-seed-{seed}", requests=tuple(drawn))


def bursty(requests: int, seed: int) -> QueuedRequests:
    """Requests as in ``mixed`` that come a dozen at a time, with seconds of nothing between."""
    draw = np.random.default_rng(seed)
    at_ms, drawn = 0.0, []
    for place in range(requests):
        if place:
            is_first = place % BURST_REQUESTS == 0
            at_ms += float(draw.exponential(BURST_GAP_MS if is_first else IN_BURST_GAP_MS))
        drawn.append(_request(draw, place, at_ms))
    return QueuedRequests(name=f"bursty-{requests}-seed-{seed}", requests=tuple(drawn))


GENERATORS: dict[str, Callable[[int, int], QueuedRequests]] = {"mixed": mixed, "bursty": bursty}


def _request(draw: np.random.Generator, place: int, at_ms: float) -> QueuedRequest:
    """One of either kind, and its deadline."""
    is_document, is_grouped, has_deadline = (
        bool(draw.random() < share) for share in (DOCUMENT_SHARE, GROUPED_SHARE, DEADLINE_SHARE)
    )
    group = str(draw.choice(list(SHARED_TOKENS)))
    own_tokens, answer_tokens = int(draw.lognormal(4.8, 0.6)) + 8, int(draw.lognormal(4.8, 0.6)) + 8
    document_tokens = int(draw.integers(2000, 5001))
    deadline_ms = float(draw.integers(3, 13)) * 500
    shared = SHARED_TOKENS[group] if is_grouped and not is_document else None
    prompt_tokens = document_tokens if is_document else min(own_tokens, 1500) + (shared or 0)
    return QueuedRequest(
        id=f"{'document' if is_document else 'chat'}-{place + 1}",
        arrival_ms=round(at_ms, 1),
        prompt_tokens=prompt_tokens,
        output_tokens=min(answer_tokens, 600),
        deadline_ms=deadline_ms if has_deadline else None,
        prefix_group=group if shared else None,
        prefix_tokens=shared,
    )
