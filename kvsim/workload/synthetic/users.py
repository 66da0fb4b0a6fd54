"""A closed loop out of an open one: so many users, each of whom goes through one session after the other."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.graph import RequestGraph
from kvsim.workload.hits import hit_rate
from kvsim.workload.workload import Floats, Ints, Workload


def as_users(source: Workload, concurrency: int, between_s: float, pace_s: float, seed: int) -> Workload:
    """The sessions of an open loop, each begun by the first of ``concurrency`` users who is done with another.

    A turn follows the answer before it and the pause that it has in ``source``, where answers last ``pace_s`` a token;
    a session follows the user's last one after an exponential pause of mean ``between_s``. The users' first requests
    are spread over one such pause. Arrival times are what they would be with answers of that pace.
    """
    check_concurrency(concurrency)
    random = np.random.default_rng(seed)
    answers_s = source.output_tokens * pace_s
    after, think_s = np.full(len(source), -1, dtype=np.int64), np.zeros(len(source))
    sent_s = np.zeros(len(source))
    starts_s = np.arange(concurrency) / concurrency * between_s
    free: list[tuple[float, int, int]] = [(time_s, user, -1) for user, time_s in enumerate(starts_s.tolist())]
    for rows in _sessions(source):
        time_s, user, last = heapq.heappop(free)
        pauses_s = np.maximum(np.diff(source.arrival_s[rows]) - answers_s[rows[:-1]], 0.0)
        first_s = random.exponential(between_s) if last >= 0 else 0.0
        after[rows] = np.concatenate(([last], rows[:-1]))
        think_s[rows] = np.concatenate(([first_s], pauses_s))
        times_s = time_s + np.cumsum(think_s[rows] + np.concatenate(([0.0], answers_s[rows[:-1]])))
        sent_s[rows] = times_s
        heapq.heappush(free, (float(times_s[-1] + answers_s[rows[-1]]), user, int(rows[-1])))
    return _in_order(source, after, think_s, sent_s, f"{concurrency:,} users, each with one request at a time")


def at_most(source: Workload, concurrency: int) -> Workload:
    """All requests at once, of which never more than ``concurrency`` are in flight, in the order of ``source``.

    That is what ``vllm bench serve --max-concurrency`` does.
    """
    check_concurrency(concurrency)
    info = source.info.noted(f"never more than {concurrency:,} requests in flight")
    return replace(source, arrival_s=np.zeros(len(source)), max_concurrency=concurrency, info=info)


def check_concurrency(concurrency: int) -> None:
    """Raise ``WorkloadError`` where nobody would send anything."""
    if concurrency < 1:
        raise WorkloadError(f"concurrency is {concurrency}; allowed: 1 or more")


def _sessions(source: Workload) -> list[Ints]:
    """The rows of each session in their order, sessions by their first arrival; one without is its own."""
    alone = source.session_id < 0
    number = np.where(alone, source.session_id.max(initial=-1) + 1 + np.arange(len(source)), source.session_id)
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    return sorted(parts, key=lambda rows: int(rows[0]))


def _in_order(source: Workload, after: Ints, think_s: Floats, sent_s: Floats, note: str) -> Workload:
    order = np.argsort(sent_s, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    waits = after[order]
    taken = source.taken(order, sent_s[order])
    info = replace(source.info.noted(note), infinite_cache_hit_rate_tokens=hit_rate(taken))
    graph = RequestGraph.turns(np.where(waits >= 0, rank[waits], -1), think_s[order])
    return replace(taken, graph=graph, info=info)
