"""What a unified system's requests found in caches, and which of them its instances served at the same time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from kvsim.capacity.demand import CacheFacts, Demand, SharedPrompts, cache_facts, demand_of
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult, Table
from kvsim.record.summary import in_window
from kvsim.workload.workload import Floats, Ints, Workload

_SAMPLE_REQUESTS = 10_000
_COLUMNS = ("request_id", "prefill_instance", "arrival_s", "retry_s", "proxy_s", "queue_s", "finish_s")


def facts_of(workload: Workload, result: SystemResult, rows: npt.NDArray[np.bool_], plan: Plan) -> CacheFacts:
    """What the completed requests ``rows`` of a run of ``workload`` on ``plan`` found in caches."""
    if result.transfer is not None:
        return cache_facts(result.table, rows, plan)
    return unified_facts(workload, result.table, rows, plan)


def served_demand(workload: Workload, plan: Plan, result: SystemResult) -> Demand | None:
    """Demand of the requests that completed inside the measured window, with what they hit; ``None``: none did.

    ``workload`` and ``plan``: what ``result`` was of. What a saturated run's throughput is to be held against: it
    serves the first to arrive, lengths of a trace change over its hour, and hits depend on instances and load.
    """
    rows = in_window(result, result.window_s)
    if not rows.any():
        return None
    requests = result.table["request_id"][rows].astype(np.int64)
    return demand_of(workload, plan, facts_of(workload, result, rows, plan), requests)


def unified_facts(workload: Workload, table: Table, rows: npt.NDArray[np.bool_], plan: Plan) -> CacheFacts:
    """What the completed requests ``rows`` of a unified system's run found in caches and shared with each other."""
    facts = cache_facts(table, rows, plan)
    if not plan.colocated_settings.enable_prefix_caching or not rows.any():
        return facts
    return replace(facts, shared=gathered_prompts(workload, {name: table[name][rows] for name in _COLUMNS}))


def gathered_prompts(workload: Workload, table: Table) -> SharedPrompts:
    """What prompts share as requests met: a router brings alike ones to an instance. ``table``: completed requests.

    Of all that were on an instance beside one that holds a chain, a share ``use`` held it too, weighted by the time
    they were there together; so turns of a session, of which one follows on the other, share nothing. Who is let in
    beside n others lacks a chain with probability ``(1 - use)^n``.
    """
    rows = _sampled(table)
    requests, instance = table["request_id"][rows].astype(np.int64), table["prefill_instance"][rows].astype(np.int64)
    waited_s = table["retry_s"][rows] + table["proxy_s"][rows] + table["queue_s"][rows]
    start_s, end_s = table["arrival_s"][rows] + waited_s, table["finish_s"][rows]
    residence_s = end_s - start_s
    total_s, prompts = float(residence_s.sum()), workload.prompt_tokens[requests]
    mean_tokens = float((prompts * residence_s).sum()) / total_s if total_s else float(prompts.mean())
    owner, piece = _pieces(workload, requests)
    if not len(owner) or not total_s:
        return SharedPrompts(np.zeros(0), np.zeros(0), mean_tokens)
    _, chain = np.unique(workload.piece_chain[piece], return_inverse=True)
    _, held = np.unique(instance[owner] * (chain.max() + 1) + chain, return_inverse=True)
    together_s = np.bincount(held, beside_s(held, start_s[owner], end_s[owner]))
    all_s = np.bincount(held, beside_s(instance, start_s, end_s)[owner])
    tokens = np.bincount(held, residence_s[owner] * workload.piece_tokens[piece]) / total_s
    shared = (together_s > 0) & (all_s > 0)
    use = np.minimum(together_s[shared] / all_s[shared], 1.0)
    return SharedPrompts(use, tokens[shared] / use, mean_tokens - float(tokens[shared].sum()))


def _sampled(table: Table) -> Ints:
    """All requests of some instances, or the first of one."""
    stride = max(1, -(-len(table["request_id"]) // _SAMPLE_REQUESTS))
    instance = table["prefill_instance"].astype(np.int64)
    rows = np.flatnonzero(instance % stride == instance.min() % stride)
    found: Ints = rows[np.argsort(table["finish_s"][rows], kind="stable")[:_SAMPLE_REQUESTS]]
    return found


def _pieces(workload: Workload, requests: Ints) -> tuple[Ints, Ints]:
    """The parts of prompts that others can have: whose each is, by place in ``requests``, and which."""
    counts = np.diff(workload.piece_offsets)[requests]
    owner = np.repeat(np.arange(len(requests)), counts)
    firsts = workload.piece_offsets[requests] - (np.cumsum(counts) - counts)
    piece = np.arange(len(owner)) + np.repeat(firsts, counts)
    shareable = workload.piece_chain[piece] >= 0
    return owner[shareable], piece[shareable]


def beside_s(group: Ints, start_s: Floats, end_s: Floats) -> Floats:
    """For each residence the time that others of its group are there too, as often as there are others; seconds."""
    number = len(group)
    at_s, change = np.concatenate([start_s, end_s]), np.repeat([1.0, -1.0], number)
    order = np.lexsort((at_s, np.concatenate([group, group])))
    # After each event; nobody is left at the end of a group, so that going on to the next one adds nothing.
    inside = np.cumsum(change[order])
    passed_s = np.concatenate([[0.0], np.cumsum(inside[:-1] * np.diff(at_s[order]))])
    place = np.empty(2 * number, dtype=np.int64)
    place[order] = np.arange(2 * number)
    found: Floats = np.maximum(passed_s[place[number:]] - passed_s[place[:number]] - (end_s - start_s), 0.0)
    # What rounding leaves of nothing is nothing.
    found[found <= 1e-9 * passed_s[-1]] = 0.0
    return found
