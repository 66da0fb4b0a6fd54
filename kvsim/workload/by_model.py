"""A trace's requests dealt to the models of a cluster: by the model that each one asks, or by shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kvsim.config.several import seed_of
from kvsim.errors import WorkloadError
from kvsim.workload.dealing import belongings
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Ints, Workload

REST = "*"
"""Among what a trace calls a model: whatever else it names, or nothing."""
_SHOWN = 5
"""Names that a message has of those that a trace has."""


@dataclass(frozen=True)
class Taker:
    """A model of a cluster, and which requests of a trace are its own."""

    name: str
    share: float | None
    """What part it gets of a trace that names no models, beside the others' shares; ``None``: not said."""
    trace_models: tuple[str, ...]
    """What the trace calls it, ``REST`` perhaps."""


@dataclass(frozen=True)
class TraceWithModels(TraceSource):
    """A trace of which is kept which model each request asks."""

    def read(self, answer_s_per_token: float | None = None) -> Workload:
        from kvsim.workload.read import read_workload

        return read_workload(self.path, self.reading, answer_s_per_token, keeps_models=True)


@dataclass(frozen=True)
class PartOfTrace(TraceSource):
    """The requests of a trace that are one model's, read before; at their times in the whole trace."""

    workload: Workload = field(kw_only=True)
    model: str = field(kw_only=True)

    def read(self, answer_s_per_token: float | None = None) -> Workload:
        return self.workload


def parted(source: TraceSource, workload: Workload, takers: Sequence[Taker], seed: int) -> list[PartOfTrace]:
    """What each of ``takers`` gets of ``workload``, which was read from ``source``; every request is one's.

    By the model that requests ask, where the trace says that of any; else by shares. Raises ``WorkloadError``.
    """
    if workload.model is None:
        taker, words = _by_share(workload, takers, seed), "dealt by shares, session by session"
    else:
        taker, words = _by_name(workload, takers), "those that ask it"
        _check_apart(workload, taker, takers)
    parts = []
    for number, each in enumerate(takers):
        rows = np.flatnonzero(taker == number)
        if not len(rows):
            raise WorkloadError(_none_of(workload, each))
        note = f"{len(rows):,} of the trace's {len(workload):,} requests are {each.name}'s: {words}"
        reading = source.reading
        if reading.limit is not None:
            reading = replace(reading, limit=len(rows))
        parts.append(PartOfTrace(source.path, reading, workload=_part(workload, rows, note), model=each.name))
    return parts


def _part(workload: Workload, rows: Ints, note: str) -> Workload:
    """Hit rates of an infinite cache are the whole trace's, and not known of a part."""
    info = replace(
        workload.info.noted(note),
        models=(),
        infinite_cache_hit_rate=None,
        infinite_cache_hit_rate_full_blocks=None,
        infinite_cache_hit_rate_tokens=None,
    )
    return replace(workload.taken(rows, workload.arrival_s[rows]), model=None, info=info)


def dealt_by_share(belonging: Ints, names: Sequence[str], shares: Sequence[float], seed: int) -> Ints:
    """For each request the number of its model: of ``names``, drawn by ``shares``, the same for all of a ``belonging``.

    Whatever is to be dealt goes to the model that is first in a race of exponential times, the faster the larger its
    share. Each model draws its own times: the order of models changes nothing, and one more takes some of each other's
    without moving any between these.
    """
    count = int(belonging.max(initial=-1)) + 1
    times = [
        np.random.default_rng(seed_of(seed, name)).standard_exponential(count) / share
        for name, share in zip(names, shares, strict=True)
    ]
    found: Ints = np.argmin(np.stack(times), axis=0).astype(np.int64)[belonging]
    return found


def _by_share(workload: Workload, takers: Sequence[Taker], seed: int) -> Ints:
    if len(takers) == 1:
        return np.zeros(len(workload), dtype=np.int64)
    shares = []
    for taker in takers:
        if taker.share is None:
            raise WorkloadError(
                f"{workload.info.source}: names no models, so its requests are dealt by shares, and '{taker.name}' has "
                "none; share of an item of models gives one"
            )
        shares.append(taker.share)
    return dealt_by_share(belongings(workload), [taker.name for taker in takers], shares, seed)


def _by_name(workload: Workload, takers: Sequence[Taker]) -> Ints:
    assert workload.model is not None, "a trace that names models"
    names = workload.info.models
    rest = next((number for number, taker in enumerate(takers) if REST in taker.trace_models), -1)
    whose = {name: number for number, taker in enumerate(takers) for name in taker.trace_models}
    # The last entry is of requests that name no model, whose number is -1.
    target = np.array([*(whose.get(name, rest) for name in names), rest], dtype=np.int64)
    found: Ints = target[workload.model]
    lost = found < 0
    if lost.any():
        asked = _counted(workload, target < 0)
        raise WorkloadError(
            f"{workload.info.source}: {int(lost.sum()):,} of {len(workload):,} requests are of no item of models: "
            f"{asked}; trace_models of an item has the trace's names, '{REST}' all others"
        )
    return found


def _counted(workload: Workload, which: np.ndarray) -> str:
    """Names that requests ask, the most frequent first, and how often; ``which``: of these, and of no name at last."""
    assert workload.model is not None, "a trace that names models"
    counts = np.bincount(workload.model % (len(workload.info.models) + 1), minlength=len(which))
    said = [*(repr(name) for name in workload.info.models), "no model"]
    found = sorted((-int(counts[place]), said[place]) for place in np.flatnonzero(which) if counts[place])
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return ", ".join(f"{name} ({-count:,})" for count, name in found[:_SHOWN]) + more


def _none_of(workload: Workload, taker: Taker) -> str:
    if workload.model is None:
        return f"{workload.info.source}: no request of {len(workload):,} falls to '{taker.name}' by its share"
    called = ", ".join(f"'{name}'" for name in taker.trace_models)
    has = _counted(workload, np.ones(len(workload.info.models) + 1, dtype=np.bool_))
    return f"{workload.info.source}: no request is of '{taker.name}' (trace_models: {called}); the trace asks {has}"


def _check_apart(workload: Workload, taker: Ints, takers: Sequence[Taker]) -> None:
    """Raise ``WorkloadError`` where a request of one model waits for another one's: models are run apart."""
    graph = workload.graph
    if graph is None:
        return
    row = graph.rows()
    across = np.flatnonzero(taker[row] != taker[graph.on])
    if len(across):
        one, other = (takers[int(taker[of[across[0]]])].name for of in (row, graph.on))
        raise WorkloadError(
            f"{workload.info.source}: requests wait for another model's, {len(across):,} in all, the first of '{one}' "
            f"for one of '{other}'; models are run apart, so these cannot be served"
        )
