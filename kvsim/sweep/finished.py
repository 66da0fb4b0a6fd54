"""The table of a sweep once its runs have ended: sorted, as CSV and as Parquet; equal bytes wherever they were run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.report.atomic import replacing
from kvsim.sweep.schema import Range
from kvsim.sweep.sweep import Sweep
from kvsim.sweep.table import CSV, OWN, PARQUET, ROWS, rows_by_run, sweep_in

if TYPE_CHECKING:
    import polars as pl

_CHUNK = 10_000
"""Rows that are held as Python has them."""
Row = dict[str, Any]


def rows_in(folder: Path) -> Iterator[Row]:
    """The rows of a sweep's folder, sorted by run."""
    path = folder / ROWS
    places = rows_by_run(path)
    with open(path, "rb") as file:
        for number in sorted(places):
            file.seek(places[number])
            yield json.loads(file.readline())


def write_finished(folder: Path) -> list[Path]:
    """Write the rows of the folder as CSV and Parquet; returns both. Raises a ``KvsimError`` where that cannot be."""
    frame = frame_of(rows_in(folder), sweep_in(folder))
    with replacing(folder / CSV) as file:
        frame.write_csv(file)
    with replacing(folder / PARQUET) as file:
        frame.write_parquet(file)
    return [folder / CSV, folder / PARQUET]


def frame_of(rows: Iterable[Row], sweep: Sweep) -> pl.DataFrame:
    """A row a run. Values of a key that are of several kinds, and lists, are text as JSON has them."""
    import polars as pl

    kinds = {key: _kind(_of_key(sweep, key)) for key in sweep.keys}
    frames, rest = [], iter(rows)
    while chunk := list(islice(rest, _CHUNK)):
        frames.append(_chunk(chunk, kinds))
    frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
    figures = [name for name in frame.columns if name not in OWN and name not in kinds and name != "error"]
    empty = [pl.col(name).cast(pl.Float64) for name in figures if frame.schema[name] == pl.Null]
    return frame.select([name for name in (*OWN, *kinds, "error", *figures) if name in frame.columns]).with_columns(
        empty
    )


def _of_key(sweep: Sweep, key: str) -> Sequence[Any]:
    values = sweep.keys[key]
    if isinstance(values, Range):
        return [int(values.low)] if values.integer else [values.low]
    return [value for value in values if value is not None]


def _kind(values: Sequence[Any]) -> type:
    """What a column of such values holds."""
    kinds = {type(value) for value in values}
    if len(kinds) == 1 and kinds <= {bool, int, float, str}:
        return kinds.pop()
    return float if kinds == {int, float} else object


def _chunk(rows: Sequence[Row], kinds: Mapping[str, type]) -> pl.DataFrame:
    import polars as pl

    names = list(dict.fromkeys(name for row in rows for name in row))
    types = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String, object: pl.String}
    types[type(None)] = pl.Null
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        kind = str if name in ("id", "error") else kinds.get(name)
        if kind is object:
            values = [None if value is None else json.dumps(value) for value in values]
        if kind is None:
            present = [value for value in values if value is not None]
            kind = _kind(present) if present else type(None)
        columns.append(pl.Series(name, values, types[kind], strict=False))
    return pl.DataFrame(columns)
