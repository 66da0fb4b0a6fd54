"""Operator times as they were measured on one GPU, and the file that keeps them beside a profile."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kvsim.errors import ConfigError
from kvsim.units import MICRO

if TYPE_CHECKING:
    import polars as pl

Floats = npt.NDArray[np.float64]
COLUMNS = ("table", "name", "x0", "x1", "x2", "x3", "time_us")


@dataclass(frozen=True)
class Operators:
    """Seconds of one call of each operator, with the shapes that one GPU of an instance runs.

    ``dense`` and ``per_sequence`` hold, by operator, rows of (tokens or sequences, seconds), ascending; ``attention``
    rows of (prefill chunk, prefix, decodes, context of each, seconds), all of one layer; ``moe`` rows of (tokens on the
    rank, experts that they touch, seconds), all of one layer; ``straggler`` rows of (decodes, prefilled tokens, seconds
    for each token by which the longest context exceeds the mean), of one layer.
    """

    dense: dict[str, Floats]
    per_sequence: dict[str, Floats]
    attention: Floats
    moe: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    straggler: Floats = field(default_factory=lambda: np.zeros((0, 3)))


def write_operators(operators: Operators, file: IO[bytes]) -> None:
    """One Parquet file of long rows; the names of its columns are ``COLUMNS``, times in microseconds."""
    import polars as pl

    frames = [_frame("dense", name, rows) for name, rows in operators.dense.items()] + [
        _frame("per_sequence", name, rows) for name, rows in operators.per_sequence.items()
    ]
    frames += [_frame(table, table, getattr(operators, table)) for table in ("attention", "moe", "straggler")]
    whole: pl.DataFrame = pl.concat(frames)
    written = io.BytesIO()  # Polars writes past Python's file, and says what fails as exceptions of its own.
    whole.write_parquet(written)
    file.write(written.getbuffer())


def _frame(table: str, name: str, rows: Floats) -> pl.DataFrame:
    import polars as pl

    places = rows[:, :-1]
    columns = {f"x{axis}": places[:, axis] if axis < places.shape[1] else np.zeros(len(rows)) for axis in range(4)}
    text = {"table": [table] * len(rows), "name": [name] * len(rows)}
    schema = {"table": pl.String, "name": pl.String, **dict.fromkeys(COLUMNS[2:], pl.Float64)}
    return pl.DataFrame({**text, **columns, "time_us": rows[:, -1] / MICRO}, schema=schema)


def read_operators(path: Path) -> Operators:
    """What ``write_operators`` wrote. Raises ``ConfigError`` where it is no such file."""
    import polars as pl

    try:
        whole = pl.read_parquet(path, columns=list(COLUMNS))
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ConfigError(f"{path.name}: not a file of operator times that 'calibrate' wrote ({reason})") from None

    def rows(table: str, axes: int) -> dict[str, Floats]:
        found = whole.filter(pl.col("table") == table)
        names = found["name"].unique(maintain_order=True).to_list()
        keys = [*COLUMNS[2 : 2 + axes], "time_us"]
        scale = np.array([1.0] * axes + [MICRO])
        return {name: found.filter(pl.col("name") == name).select(keys).to_numpy() * scale for name in names}

    return Operators(
        dense=rows("dense", 1),
        per_sequence=rows("per_sequence", 1),
        attention=rows("attention", 4).get("attention", np.zeros((0, 5))),
        moe=rows("moe", 2).get("moe", np.zeros((0, 3))),
        straggler=rows("straggler", 2).get("straggler", np.zeros((0, 3))),
    )
