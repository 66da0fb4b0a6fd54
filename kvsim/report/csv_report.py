"""The per-request table as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kvsim.report.atomic import replacing

if TYPE_CHECKING:
    import polars as pl

    from kvsim.record.result import SystemResult

_SLICE_ROWS = 50_000
_FRACTIONAL = ("transferred_bytes",)
"""Columns without a time in them that are not whole numbers: compression divides bytes."""


def write_csv(path: Path, results: Sequence[SystemResult]) -> None:
    """One row per completed request of each system, in order of completion, to ``path``, whole or not at all.

    Columns: ``system``, :data:`kvsim.record.result.COLUMNS`, then ``ttft_s, tpot_s, e2e_s, measured``. Times are in
    seconds with every digit a float has; TPOT of a one-token answer is empty. Memory stays that of one slice of rows.
    A path that cannot be written raises a ``KvsimError``.
    """
    with replacing(path) as file:
        write_rows(file, results)


def write_models_csv(path: Path, results: Mapping[str, Sequence[SystemResult]]) -> None:
    """Write :func:`write_csv` of several models, by name, with a first column ``model``."""
    with replacing(path) as file:
        file.write(f"model,{_heading()}".encode())
        for model, own in results.items():
            _write(file, own, f"{model},")


def write_rows(file: IO[bytes], results: Sequence[SystemResult]) -> None:
    """Write the rows of :func:`write_csv`, under their heading."""
    file.write(_heading().encode())
    _write(file, results)


def _heading() -> str:
    from kvsim.record.result import COLUMNS

    return ",".join(["system", *COLUMNS, "ttft_s", "tpot_s", "e2e_s", "measured"]) + "\n"


def _write(file: IO[bytes], results: Sequence[SystemResult], before: str = "") -> None:
    """``before`` begins each row."""
    for result in results:
        for frame in _frames(result):
            # Not by Polars itself: it writes past Python's file, and says what fails as exceptions of its own.
            text = frame.write_csv(include_header=False)
            if before:
                text = "".join(f"{before}{row}" for row in text.splitlines(keepends=True))
            file.write(text.encode())


def _frames(result: SystemResult) -> Iterator[pl.DataFrame]:
    import polars as pl

    from kvsim.record.result import COLUMNS
    from kvsim.record.summary import e2e_s, tpot_s, ttft_s

    whole = [name for name in COLUMNS if not name.endswith("_s") and name not in _FRACTIONAL]
    for start in range(0, result.measured.size, _SLICE_ROWS):
        rows = slice(start, start + _SLICE_ROWS)
        table = {name: result.table[name][rows] for name in COLUMNS}
        derived = {"ttft_s": ttft_s(table), "tpot_s": tpot_s(table), "e2e_s": e2e_s(table)}
        frame = pl.DataFrame(table | derived).fill_nan(None)
        yield frame.select(
            pl.lit(result.name).alias("system"),
            *(pl.col(name).cast(pl.Int64) if name in whole else pl.col(name) for name in frame.columns),
            pl.Series("measured", result.measured[rows]),
        )
