"""What runs side by side kept beside their requests, as one run would have kept it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvsim.plan.plan import Place
from kvsim.record.binned import Floats
from kvsim.record.detail import Detail, InstanceFacts
from kvsim.record.result import Table
from kvsim.sim.log.detail import BINS
from kvsim.sim.log.step_totals import folded
from kvsim.workload.graph import Ints


@dataclass(frozen=True)
class DetailNumbers:
    """By what numbers the whole run knows what a part of it has numbered from 0 on."""

    requests: Ints
    instances: Ints
    """Places in ``Detail.instances``."""


def merged_detail(
    parts: Sequence[Detail | None],
    numbers: Sequence[DetailNumbers],
    places: Sequence[Place],
    prefills: int,
    end_s: float,
) -> Detail | None:
    """``None`` where nothing was kept. ``places``: of all instances; the first ``prefills`` of them compute prompts."""
    kept = [part for part in parts if part is not None]
    if not kept:
        return None
    steps, step_numbers = _steps(kept, numbers)
    known = list(zip(kept, numbers, strict=True))
    chunks = [
        _known(part.chunks, own, ()) | {"step": rows[_ints(part.chunks["step"])].astype(np.float64)}
        for (part, own), rows in zip(known, step_numbers, strict=True)
    ]
    bin_s, levels = _levels(kept, numbers, len(places), end_s)
    return Detail(
        instances=_facts(kept, numbers, places, prefills),
        tiers=kept[0].tiers,
        steps=steps,
        chunks=_together(chunks, "step"),
        gaps=_together([_known(part.gaps, own, ("instance",)) for part, own in known]),
        transfers=_together([_known(part.transfers, own, ("source", "target")) for part, own in known], "end_s"),
        loads=_together([_known(part.loads, own, ("instance",)) for part, own in known], "start_s"),
        served=_together([_known(part.served, own, ()) for part, own in known]),
        bin_s=bin_s,
        levels=levels,
    )


def _steps(parts: Sequence[Detail], numbers: Sequence[DetailNumbers]) -> tuple[Table, list[Ints]]:
    """The spans in the order in which they ended, and the rows that each part's are of them."""
    known = [_known(part.steps, own, ("instance",)) for part, own in zip(parts, numbers, strict=True)]
    ends_s = np.concatenate([part["end_s"] for part in known])
    order = np.argsort(ends_s, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    edges = np.cumsum([len(part["end_s"]) for part in known])[:-1]
    return _together(known, "end_s"), np.split(place, edges)


def _known(table: Table, own: DetailNumbers, instances: Sequence[str]) -> Table:
    """A table with the numbers of the whole run."""
    found = dict(table)
    for name in instances:
        found[name] = own.instances[_ints(table[name])].astype(np.float64)
    if "request_id" in table:
        found["request_id"] = own.requests[_ints(table["request_id"])].astype(np.float64)
    return found


def _ints(column: Floats) -> Ints:
    return column.astype(np.int64)


def _together(tables: Sequence[Table], by: str | None = None) -> Table:
    """Rows of all tables, ascending in one column; equals in the order of the tables."""
    found = {name: np.concatenate([table[name] for table in tables]).astype(np.float64) for name in tables[0]}
    if by is None:
        return found
    order = np.argsort(found[by], kind="stable")
    return {name: column[order] for name, column in found.items()}


def _facts(
    parts: Sequence[Detail], numbers: Sequence[DetailNumbers], places: Sequence[Place], prefills: int
) -> tuple[InstanceFacts, ...]:
    found: dict[int, InstanceFacts] = {}
    for part, own in zip(parts, numbers, strict=True):
        for number, facts in zip(own.instances.tolist(), part.instances, strict=True):
            place = places[number]
            among = number - prefills if number >= prefills else number
            found[number] = replace(facts, number=among, host=place.host, rack=place.rack)
    return tuple(found[number] for number in sorted(found))


def _levels(
    parts: Sequence[Detail], numbers: Sequence[DetailNumbers], instances: int, end_s: float
) -> tuple[float, Floats]:
    """Bins as wide as those of the longest part."""
    bin_s = max(part.bin_s for part in parts)
    bins = min(BINS, max(1, int(np.ceil(end_s / bin_s))))
    levels = np.zeros((2, instances, bins))
    for part, own in zip(parts, numbers, strict=True):
        padded = np.zeros((2, len(own.instances), BINS))
        padded[:, :, : part.levels.shape[2]] = part.levels
        levels[:, own.instances] = folded(padded, round(bin_s / part.bin_s))[:, :, :bins]
    return bin_s, levels
