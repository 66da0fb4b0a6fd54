"""Sweeps: the rows of a folder, or a table alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvsim._version import __version__
from kvsim.errors import KvsimError
from kvsim.explore.artefact import Artefact, DamagedError, Entry, Figures, OtherVersionError, Tree
from kvsim.explore.runs import rows_block
from kvsim.launch import read_launch_line

OWN = ("run", "id", "point", "replication", "seed")
MOST_POINTS = 20_000
"""Points up to which each is an entry of its own."""
_FIELDS = ("requests_per_s", "output_tokens_per_s", "ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "e2e_mean_ms")


def sweep_artefact(path: Path, digest: str, header: Tree | None, rows: Sequence[Mapping[str, Any]]) -> Artefact:
    """The page of a sweep, an entry a point and system: the means of its replications."""
    says: Tree = {} if header is None else header["says"]
    if header is not None and f"kvsim {__version__} " not in header["made_by"]:
        raise OtherVersionError(f"written by {header['made_by']}, this is kvsim {__version__}")
    if not rows:
        raise DamagedError("a sweep without rows")
    keys = list(says["keys"]) if header is not None else _keys(rows[0])
    fixed = says.get("fixed", {})
    systems = list(dict.fromkeys(name.rpartition(".")[0] for name in rows[0] if name.endswith(".ttft_mean_ms")))
    points: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        points.setdefault(row["point"], []).append(row)
    found = [(point[0], system, _means(point, system)) for _, point in sorted(points.items()) for system in systems]
    entries = [_entry(first, system, keys, fixed, figures, len(systems) > 1) for first, system, figures in found]
    failed = sum(row.get("error") is not None for row in rows)
    name = ", ".join(keys) or "one point"
    whole = Entry(name=f"{len(points):,} points", figures=Figures())
    told = [
        {key: first.get(key) for key in keys}
        | {"system": system}
        | {field: getattr(figures, field) for field in _SHOWN}
        for first, system, figures in found
    ]
    return Artefact(
        path=path,
        digest=digest,
        kind="sweep",
        title=f"Sweep over {name}",
        entries=tuple(entries) if 0 < len(entries) <= MOST_POINTS else (whole,),
        facts=(
            ("what", str(fixed.get("server") or fixed.get("mode") or "-")),
            ("runs", f"{len(rows):,} of {header['runs']:,}" if header is not None else f"{len(rows):,}"),
            ("failed", f"{failed:,}"),
        ),
        blocks=(rows_block("Points: means of their replications", told[:MOST_POINTS]),) if told else (),
        config={key: json.dumps(value) for key, value in {**fixed, **says.get("set", {})}.items()},
    )


_SHOWN = ("requests", *_FIELDS, "hit_rate")


def _keys(row: Mapping[str, Any]) -> list[str]:
    """Columns between a table's own and what runs found: until ``error``."""
    names = list(row)
    end = names.index("error") if "error" in names else len(names)
    return [name for name in names[:end] if name not in OWN]


def _means(rows: Sequence[Mapping[str, Any]], system: str) -> Figures:
    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row.get(name) is not None]
        return sum(values) / len(values) if values else None

    figures = {field: mean(f"{system}.{field}") for field in _FIELDS}
    requests = mean("served.requests")
    return Figures(
        requests=None if requests is None else round(requests), hit_rate=mean(f"{system}.prefix_hit_rate"), **figures
    )


def _entry(
    row: Mapping[str, Any], system: str, keys: Sequence[str], fixed: Tree, figures: Figures, named: bool
) -> Entry:
    of = {**fixed, **{key: row.get(key) for key in keys}}
    name = ", ".join(f"{key} {row.get(key)}" for key in keys)
    return Entry(
        name=f"{name}; {system}" if named else name,
        figures=figures,
        system=system,
        model=str(of.get("model.name") or _model(of.get("server")) or ""),
        gpu=str(of.get("gpu") or of.get("hardware.gpu") or ""),
        workload=str(of.get("workload") or of.get("trace") or ""),
    )


def _model(line: object) -> str:
    try:
        return read_launch_line(str(line)).model if line else ""
    except KvsimError:
        return ""
