"""Two runs of the same requests, one request beside the other: who moved most, and who differs first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.record.labels import COMPONENT_LABELS
from kvsim.record.result import COMPONENTS, SystemResult, Table
from kvsim.record.summary import ttft_s

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_TOLERANCE, _LEAST_S = 1e-9, 1e-12
"""Facts that are this near, relatively, differ by rounding alone; so do times that are near nothing."""

FACTS = {
    "arrival_s": "arrival",
    "retry_s": "time of lost attempts",
    "prefill_instance": "route",
    "hit_tokens": "hit tokens",
    "loaded_tokens": "tokens loaded from tiers",
    "proxy_s": "time in the proxy",
    "queue_s": "time in the queue",
    "tier_load_s": "time of loading from tiers",
    "computed_tokens": "computed tokens",
    "prefill_s": "step: its own compute",
    "interference_s": "step: time spent on others in it",
    "preemptions": "preemptions",
    "preemption_s": "time lost to preemption",
    "decode_instance": "route of the answer",
    "transferred_bytes": "bytes of KV sent",
    "transfer_s": "exposed transfer",
    "decode_wait_s": "wait for a decode step",
    "first_decode_s": "first decode step",
    "first_token_s": "time of the first token",
    "output_tokens": "generated tokens",
    "finish_s": "time of the last token",
}
"""What is recorded of a request, in the order in which it is decided or found out."""
_WHEN = dict.fromkeys(("hit_tokens", "loaded_tokens"), "queue_s")
_WHEN |= dict.fromkeys(("computed_tokens", "preemptions"), "prefill_s")
"""Facts that are known once a part of TTFT is over: its beginning is no later than that part's end."""


@dataclass(frozen=True, kw_only=True)
class MovedRequest:
    """A request that counts, and what its TTFT is on either side."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    ttft_a_ms: float
    ttft_b_ms: float
    change_ms: float
    part: str
    """The part of TTFT that changed most."""
    part_change_ms: float
    instance_a: int
    instance_b: int
    hit_tokens_a: int
    hit_tokens_b: int


@dataclass(frozen=True, kw_only=True)
class DifferingRequest:
    """A request whose record differs, and the first of its facts that does."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    fact: str
    a: float | None
    """In seconds, tokens, bytes or the number of an instance; ``None``: it is not complete there."""
    b: float | None
    alike: tuple[str, ...]
    """Facts before it, which do not differ."""
    seen_s: float
    """When the fact is known on the side where it is known earlier; simulated seconds."""


@dataclass(frozen=True, kw_only=True)
class RequestsApart:
    """What became of the requests of one run, on both sides."""

    requests: int
    """Complete on a side at least."""
    differing: int
    only_a: int
    """Complete there alone."""
    only_b: int
    first: DifferingRequest | None
    """In the order of arrival; ``None``: all are alike."""
    earliest: DifferingRequest | None
    """The one whose difference is seen first."""
    moved: tuple[MovedRequest, ...]


def apart(a: SystemResult, b: SystemResult, most: int) -> RequestsApart:
    """What differs between two runs of the same requests; up to ``most`` of those that moved."""
    left, right = by_id(a.table), by_id(b.table)
    both = np.intersect1d(left["request_id"], right["request_id"])
    left, mine = _rows(left, both), len(left["request_id"])
    right, theirs = _rows(right, both), len(right["request_id"])
    facts, seen_s = _first_facts(left, right)
    differs = facts < len(FACTS)
    lone = [_lone(a, both, in_a=True), _lone(b, both, in_a=False)]
    found = [_differing(left, right, int(row), facts, seen_s) for row in _firsts(left, differs, seen_s)]
    single = [one for one in lone if one is not None]
    candidates = [*found, *single]
    return RequestsApart(
        requests=mine + theirs - len(both),
        differing=int(differs.sum()) + mine + theirs - 2 * len(both),
        only_a=mine - len(both),
        only_b=theirs - len(both),
        first=min(candidates, key=lambda one: (one.arrival_s, one.request_id), default=None),
        earliest=min(candidates, key=lambda one: (one.seen_s, one.request_id), default=None),
        moved=_moved(left, right, both, set(a.table["request_id"][a.measured].astype(int).tolist()), most),
    )


def is_same(a: SystemResult, b: SystemResult) -> bool:
    """Whether every request has the same record on both sides, but for rounding."""
    if a.completed != b.completed or a.failed != b.failed:
        return False
    left, right = by_id(a.table), by_id(b.table)
    same = np.array_equal(left["request_id"], right["request_id"])
    return same and not bool((_first_facts(left, right)[0] < len(FACTS)).any())


def by_id(table: Table) -> Table:
    """The table in the order of request ids, which is that of arrival in an open loop."""
    order = np.argsort(table["request_id"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def _rows(table: Table, ids: Floats) -> Table:
    kept = np.isin(table["request_id"], ids)
    return {name: column[kept] for name, column in table.items()}


def _first_facts(left: Table, right: Table) -> tuple[npt.NDArray[np.int64], Floats]:
    """By request the place in ``FACTS`` of the first that differs, ``len(FACTS)`` for none; and when it is known.

    A part of TTFT that differs is known to when the shorter one is over, the parts before it being alike.
    """
    count = len(left["request_id"])
    facts = np.full(count, len(FACTS), dtype=np.int64)
    seen_s = np.full(count, np.inf)
    passed_s = np.minimum(left["arrival_s"], right["arrival_s"])
    for place, name in enumerate(FACTS):
        mine, theirs = left[name], right[name]
        new = ~np.isclose(mine, theirs, rtol=_TOLERANCE, atol=_LEAST_S) & (facts == len(FACTS))
        known_s = passed_s
        if name in ("first_token_s", "finish_s"):
            known_s = np.minimum(mine, theirs)
        elif name in COMPONENTS or name in _WHEN:
            part = _WHEN.get(name, name)
            known_s = passed_s + np.minimum(left[part], right[part])
        facts[new], seen_s[new] = place, known_s[new]
        if name in COMPONENTS:
            passed_s = passed_s + np.minimum(mine, theirs)
    return facts, seen_s


def _firsts(left: Table, differs: Bools, seen_s: Floats) -> set[int]:
    """Rows of the first by arrival and of the first that is seen."""
    (rows,) = np.nonzero(differs)
    if not len(rows):
        return set()
    by_arrival = np.lexsort((left["request_id"][rows], left["arrival_s"][rows]))[0]
    by_time = np.lexsort((left["request_id"][rows], seen_s[rows]))[0]
    return {int(rows[by_arrival]), int(rows[by_time])}


def _differing(left: Table, right: Table, row: int, facts: npt.NDArray[np.int64], seen_s: Floats) -> DifferingRequest:
    names = list(FACTS)
    name = names[facts[row]]
    return DifferingRequest(
        request_id=int(left["request_id"][row]),
        arrival_s=float(left["arrival_s"][row]),
        prompt_tokens=int(left["prompt_tokens"][row]),
        fact=name,
        a=float(left[name][row]),
        b=float(right[name][row]),
        alike=tuple(each for each in names[: facts[row]] if each not in COMPONENTS or left[each][row]),
        seen_s=float(seen_s[row]),
    )


def _lone(result: SystemResult, both: Floats, *, in_a: bool) -> DifferingRequest | None:
    """The first request that is complete on one side alone."""
    table = by_id(result.table)
    rows = np.nonzero(~np.isin(table["request_id"], both))[0]
    if not len(rows):
        return None
    row = int(rows[np.argmin(table["arrival_s"][rows])])
    finish_s = float(table["finish_s"][row])
    return DifferingRequest(
        request_id=int(table["request_id"][row]),
        arrival_s=float(table["arrival_s"][row]),
        prompt_tokens=int(table["prompt_tokens"][row]),
        fact="completed",
        a=finish_s if in_a else None,
        b=None if in_a else finish_s,
        alike=(),
        seen_s=float(table["arrival_s"][row]),
    )


def _moved(left: Table, right: Table, both: Floats, counted: set[int], most: int) -> tuple[MovedRequest, ...]:
    change_s = ttft_s(right) - ttft_s(left)
    counts = np.array([int(each) in counted for each in both], dtype=np.bool_)
    order = np.lexsort((both, -np.abs(change_s)))
    rows = [int(row) for row in order if counts[row] and abs(change_s[row]) > _LEAST_S][:most]
    return tuple(_moved_request(left, right, row) for row in rows)


def _moved_request(left: Table, right: Table, row: int) -> MovedRequest:
    changes = parts_change_ms(left, right, row)
    part = max(changes, key=lambda name: abs(changes[name]))
    before, after = float(ttft_s(left)[row]) * 1e3, float(ttft_s(right)[row]) * 1e3
    return MovedRequest(
        request_id=int(left["request_id"][row]),
        arrival_s=float(left["arrival_s"][row]),
        prompt_tokens=int(left["prompt_tokens"][row]),
        ttft_a_ms=before,
        ttft_b_ms=after,
        change_ms=after - before,
        part=part,
        part_change_ms=changes[part],
        instance_a=int(left["prefill_instance"][row]),
        instance_b=int(right["prefill_instance"][row]),
        hit_tokens_a=int(left["hit_tokens"][row]),
        hit_tokens_b=int(right["hit_tokens"][row]),
    )


def parts_change_ms(left: Table, right: Table, row: int) -> Mapping[str, float]:
    """How much longer each part of one request's TTFT is on the right; they sum to what its TTFT is."""
    return {name: float(right[f"{name}_s"][row] - left[f"{name}_s"][row]) * 1e3 for name in COMPONENT_LABELS}
