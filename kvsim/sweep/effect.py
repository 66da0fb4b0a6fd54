"""Keys of a sweep that change nothing: somebody may have counted on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvsim.sweep.sweep import Sweep
from kvsim.sweep.table import OWN


def without_effect(rows: Iterable[Mapping[str, Any]], sweep: Sweep) -> list[str]:
    """The keys whose values make no difference to any figure, wherever two runs differ in nothing else."""
    asked: dict[str, dict[int, int]] = {key: {} for key in sweep.keys}
    compared: set[str] = set()
    for row in rows:
        if row["error"] is not None:
            continue
        figures = hash(tuple((name, row[name]) for name in row if name not in OWN and name not in sweep.keys))
        for key in list(asked):
            others = hash((row["replication"], *(repr(row[other]) for other in sweep.keys if other != key)))
            if others not in asked[key]:
                asked[key][others] = figures
            elif asked[key][others] == figures:
                compared.add(key)
            else:
                del asked[key]
    return [key for key in asked if key in compared]
