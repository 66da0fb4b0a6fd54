"""Which requests make p99, and what they have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.difference.requests import by_id
from kvsim.record.labels import COMPONENT_LABELS
from kvsim.record.result import SystemResult, Table
from kvsim.record.summary import rows_around, ttft_s

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FEWEST = 10
"""Requests of a tail at the least, of which one can say what they have in common."""
_SURE = 3.0
"""Standard errors between a trait and none: seven are looked at."""
_STRONG = 0.7
"""Share of pairs of a request of the tail and another in which the former has more (or, below 0.3, less) of a trait."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Requests around a percentile of TTFT, and what their TTFT is made of."""

    at: str
    ttft_ms: float
    """The mean over them, which the parts sum to."""
    requests: int
    parts_ms: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Trait:
    """Something that requests have more or less of."""

    name: str
    tail: float
    """The mean over the tail."""
    others: float
    chance: float
    """How likely a request of the tail has more of it than one of the others; 0.5: it is no trait."""
    is_common: bool
    """Whether the tail surely has more of it, or less, and by much."""


@dataclass(frozen=True, kw_only=True)
class TailRequest:
    """One of the requests with the longest TTFT."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    computed_tokens: int
    instance: int
    ttft_ms: float
    part: str
    """The longest part of it."""
    part_ms: float


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The requests with the longest TTFT: one in a hundred, ``FEWEST`` at the least and half of all at the most."""

    requests: int
    of_requests: int
    from_ms: float
    """The shortest TTFT among them."""
    window_s: float
    """In which arrivals before each are counted: the p99 of TTFT."""
    traits: tuple[Trait, ...]
    instance: int
    """Most of their prompts were computed there."""
    instance_share: float
    """How many of theirs."""
    instance_share_of_all: float
    instance_is_common: bool
    rows: tuple[TailRequest, ...]


def bands(result: SystemResult) -> tuple[Band, ...]:
    """The waterfalls at the mean, p50, p90 and p99: mean parts of the requests within half a percentile."""
    table = {name: column[result.measured] for name, column in result.table.items()}
    times_s = ttft_s(table)
    found = [_band("mean", table, np.ones(len(times_s), dtype=np.bool_))]
    return (*found, *(_band(f"p{at:g}", table, rows_around(times_s, at)) for at in (50.0, 90.0, 99.0)))


def _band(at: str, table: Table, rows: Bools) -> Band:
    return Band(
        at=at,
        ttft_ms=float(ttft_s(table)[rows].mean()) * 1e3,
        requests=int(rows.sum()),
        parts_ms={name: float(table[f"{name}_s"][rows].mean()) * 1e3 for name in COMPONENT_LABELS},
    )


def tail_of(result: SystemResult, most_rows: int) -> Tail | None:
    """The tail of a run; ``None`` where fewer than two requests count."""
    table, counted = by_id(result.table), set(result.table["request_id"][result.measured].tolist())
    counts = np.isin(table["request_id"], np.array(sorted(counted)))
    times_s = ttft_s(table)
    number = int(counts.sum())
    if number < 2:
        return None
    size = min(max(FEWEST, math.ceil(number / 100)), number // 2)
    order = np.lexsort((table["request_id"], -np.where(counts, times_s, -np.inf)))[:size]
    in_tail = np.zeros(len(times_s), dtype=np.bool_)
    in_tail[order] = True
    others = counts & ~in_tail
    window_s = float(np.percentile(times_s[counts], 99))
    traits = [_trait(name, values, in_tail, others) for name, values in _values(table, window_s).items()]
    instance, share, of_all = _instance(table, in_tail, counts)
    return Tail(
        requests=size,
        of_requests=number,
        from_ms=float(times_s[order].min()) * 1e3,
        window_s=window_s,
        traits=tuple(traits),
        instance=instance,
        instance_share=share,
        instance_share_of_all=of_all,
        instance_is_common=_is_crowded(size, share, of_all, table["prefill_instance"]),
        rows=tuple(_row(table, int(row)) for row in order[:most_rows]),
    )


def _values(table: Table, window_s: float) -> dict[str, Floats]:
    """What may be a trait, by name, of every request."""
    hits = table["hit_tokens"] + table["loaded_tokens"]
    everywhere = np.zeros(len(hits))
    ones = np.ones(len(hits))
    own = table["prefill_instance"]
    return {
        "prompt tokens": table["prompt_tokens"],
        "computed tokens": table["computed_tokens"],
        "share hit": hits / table["prompt_tokens"],
        "arrivals before": _before(table["arrival_s"], everywhere, ones, window_s),
        "arrivals before, at its instance": _before(table["arrival_s"], own, ones, window_s),
        "computed tokens that came before, at its instance": _before(
            table["arrival_s"], own, table["computed_tokens"], window_s
        ),
        "preemptions": table["preemptions"],
    }


def _before(arrival_s: Floats, group: Floats, amount: Floats, window_s: float) -> Floats:
    """By request, the sum of ``amount`` over those of its group that came in the window before it."""
    found = np.zeros(len(arrival_s))
    for one in np.unique(group):
        rows = np.nonzero(group == one)[0]
        rows = rows[np.argsort(arrival_s[rows], kind="stable")]
        times_s, sums = arrival_s[rows], np.concatenate(([0.0], np.cumsum(amount[rows])))
        first = np.searchsorted(times_s, times_s - window_s, side="left")
        found[rows] = sums[np.arange(len(rows))] - sums[first]
    return found


def _trait(name: str, values: Floats, tail: Bools, others: Bools) -> Trait:
    mine, theirs = values[tail], values[others]
    ranked = np.sort(theirs)
    below, to = np.searchsorted(ranked, mine, side="left"), np.searchsorted(ranked, mine, side="right")
    chance = float((below + to).mean() / (2 * len(theirs)))
    error = math.sqrt((len(mine) + len(theirs) + 1) / (12 * len(mine) * len(theirs)))
    is_strong = max(chance, 1 - chance) >= _STRONG
    return Trait(
        name=name,
        tail=float(mine.mean()),
        others=float(theirs.mean()),
        chance=chance,
        is_common=is_strong and abs(chance - 0.5) > _SURE * error,
    )


def _instance(table: Table, tail: Bools, counts: Bools) -> tuple[int, float, float]:
    instances = table["prefill_instance"]
    names, found = np.unique(instances[tail], return_counts=True)
    most = int(names[np.argmax(found)])
    share, of_all = (float((instances[rows] == most).mean()) for rows in (tail, counts))
    return most, share, of_all


def _is_crowded(size: int, share: float, of_all: float, instances: Floats) -> bool:
    """Whether so many of the tail on one instance are no chance, though any could have been the one."""
    if of_all >= 1:
        return False
    hits = round(share * size)
    logs = [
        math.lgamma(size + 1) - math.lgamma(k + 1) - math.lgamma(size - k + 1)
        + k * math.log(of_all) + (size - k) * math.log1p(-of_all)
        for k in range(hits, size + 1)
    ]  # fmt: skip
    chance = math.fsum(math.exp(each) for each in logs)
    return chance * len(np.unique(instances)) < 0.0027


def _row(table: Table, row: int) -> TailRequest:
    parts_ms = {name: float(table[f"{name}_s"][row]) * 1e3 for name in COMPONENT_LABELS}
    part = max(parts_ms, key=lambda name: parts_ms[name])
    return TailRequest(
        request_id=int(table["request_id"][row]),
        arrival_s=float(table["arrival_s"][row]),
        prompt_tokens=int(table["prompt_tokens"][row]),
        computed_tokens=int(table["computed_tokens"][row]),
        instance=int(table["prefill_instance"][row]),
        ttft_ms=float(ttft_s(table)[row]) * 1e3,
        part=part,
        part_ms=parts_ms[part],
    )
