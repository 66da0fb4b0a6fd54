"""A closed loop out of an open one: so many users, each of whom goes through one session after the other."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.graph import Floats, Ints, RequestGraph, Waits
from kvsim.workload.hits import hit_rate
from kvsim.workload.workload import Workload


def as_users(source: Workload, concurrency: int, between_s: float, pace_s: float, seed: int) -> Workload:
    """The sessions of ``source``, each begun by the first of ``concurrency`` users who is done with another.

    A session is what a request graph holds together; where there is none, the requests of one session id, each of which
    follows the answer before it and the pause that it has in ``source``, where answers last ``pace_s`` a token. A
    session follows the user's last one after an exponential pause of mean ``between_s``. The users' first requests are
    spread over one such pause. Arrival times are what they would be with answers of that pace.
    """
    check_concurrency(concurrency)
    random = np.random.default_rng(seed)
    ends_s = source.arrival_s + source.output_tokens * pace_s
    inside = (source.graph or _turns(source, ends_s)).waits()
    number = _components(inside, len(source))
    is_root = np.bincount(inside.row, minlength=len(source)) == 0
    is_last = np.bincount(inside.on, minlength=len(source)) == 0
    starts_s = np.arange(concurrency) / concurrency * between_s
    free: list[tuple[float, int, Ints]] = [
        (time_s, user, np.zeros(0, dtype=np.int64)) for user, time_s in enumerate(starts_s.tolist())
    ]
    sent_s = np.zeros(len(source))
    row, on, delay_s = [inside.row], [inside.on], [inside.delay_s]
    for rows in _sessions(number):
        time_s, user, last = heapq.heappop(free)
        pause_s = random.exponential(between_s) if len(last) else 0.0
        begun_s = source.arrival_s[rows] - source.arrival_s[rows[0]]
        sent_s[rows] = time_s + pause_s + begun_s
        roots = is_root[rows]
        row.append(np.repeat(rows[roots], len(last)))
        on.append(np.tile(last, int(roots.sum())))
        delay_s.append(np.repeat(pause_s + begun_s[roots], len(last)))
        done_s = time_s + pause_s + float((ends_s[rows] - source.arrival_s[rows[0]]).max())
        heapq.heappush(free, (done_s, user, rows[is_last[rows]]))
    found = np.concatenate(row), np.concatenate(on), np.concatenate(delay_s)
    from_sent = np.zeros(len(found[0]), dtype=np.bool_)
    from_sent[: len(inside.row)] = inside.from_sent
    users = sum(len(last) > 0 for _, _, last in free)
    several = "" if users == 1 else "s"
    note = f"{users:,} user{several}, each in one session at a time{_asked(users, concurrency, 'sessions')}"
    return _in_order(source, Waits(*found, from_sent), sent_s, note)


def at_most(source: Workload, concurrency: int) -> Workload:
    """All requests at once, of which never more than ``concurrency`` are in flight, in the order of ``source``.

    That is what ``vllm bench serve --max-concurrency`` does.
    """
    check_concurrency(concurrency)
    most = min(concurrency, max(len(source), 1))
    info = source.info.noted(f"never more than {most:,} requests in flight{_asked(most, concurrency, 'requests')}")
    return replace(source, arrival_s=np.zeros(len(source)), max_concurrency=most, info=info)


def _asked(found: int, concurrency: int, what: str) -> str:
    """What is said where fewer are busy than were asked for."""
    return f": there are fewer {what} than the {concurrency:,} that were asked for" if found < concurrency else ""


def check_concurrency(concurrency: int) -> None:
    """Raise ``WorkloadError`` where nobody would send anything."""
    if concurrency < 1:
        raise WorkloadError(f"concurrency is {concurrency}; allowed: 1 or more")


def _turns(source: Workload, ends_s: Floats) -> RequestGraph:
    """Sessions of an open loop: each request waits for the one before it of its session."""
    order = np.argsort(source.session_id, kind="stable")
    follows = (np.diff(source.session_id[order]) == 0) & (source.session_id[order[1:]] >= 0)
    after, think_s = np.full(len(source), -1, dtype=np.int64), np.zeros(len(source))
    rows, before = order[1:][follows], order[:-1][follows]
    after[rows] = before
    think_s[rows] = np.maximum(source.arrival_s[rows] - ends_s[before], 0.0)
    return RequestGraph.turns(after, think_s)


def _components(waits: Waits, num_requests: int) -> Ints:
    """What each request hangs together with: the first row of them (a forest of disjoint sets, Galler and Fischer)."""
    first = list(range(num_requests))

    def found(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]
            row = first[row]
        return row

    for row, on in zip(waits.row.tolist(), waits.on.tolist(), strict=True):
        one, other = sorted((found(row), found(on)))
        first[other] = one
    return np.array([found(row) for row in range(num_requests)], dtype=np.int64)


def _sessions(number: Ints) -> list[Ints]:
    """The rows of each session in their order, sessions by their first."""
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _in_order(source: Workload, waits: Waits, sent_s: Floats, note: str) -> Workload:
    order = np.argsort(sent_s, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    taken = source.taken(order, sent_s[order])
    info = replace(source.info.noted(note), infinite_cache_hit_rate_tokens=hit_rate(taken))
    graph = RequestGraph.of(waits._replace(row=rank[waits.row], on=rank[waits.on]), len(order))
    return replace(taken, graph=graph, info=info)
