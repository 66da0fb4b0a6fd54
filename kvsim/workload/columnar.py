"""Reading large CSV tables a column at a time, for what reading them row by row would give in a fraction of the time.

Only tables in which nothing is wrong are read here: without quotes, with as many fields in every line as the header
has, and with values that need no second look. For any other file the answer is ``None``, and the row reader, which
knows how to name a line, does all of it again.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kvsim.workload.formats.base import TableColumns, TabularFormat, TraceFormat, model_field
from kvsim.workload.records import MAX_TIME, MAX_TOKENS, NUMBER
from kvsim.workload.table import Table
from kvsim.workload.times import DATE
from kvsim.workload.tracefile import GZIP_FAULTS, TraceFile
from kvsim.workload.workload import Ints

if TYPE_CHECKING:
    import polars as pl

# Below this the time to load the library outweighs what it saves.
LEAST_BYTES = 4 * 1024**2
CHUNK_BYTES = 32 * 1024**2

_WHOLE = r"^[0-9]{1,10}$"
_WHOLE_TIME = r"^[0-9]{1,18}$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?(\+00:?00|Z)?$"
_DATE_FORM = "%Y-%m-%d %H:%M:%S%.f"


class _NotPlain(Exception):
    """Something that the row reader should see."""


def read(file: TraceFile, schema: TraceFormat, *, keeps_models: bool = False) -> Table | None:
    """The whole of ``file``; ``None`` where it is small, of another layout, or has something to look at.

    ``keeps_models``: which model each row asks.
    """
    if file.layout != "csv" or not file.is_utf8 or not isinstance(schema, TabularFormat):
        return None
    if file.path.stat().st_size < LEAST_BYTES:
        return None
    try:
        with file.binary() as stream:
            return _read(stream, file.delimiter, schema, keeps_models)
    except (_NotPlain, *GZIP_FAULTS):
        return None


def _read(stream: IO[bytes], delimiter: str, schema: TabularFormat, keeps_models: bool) -> Table:
    head = stream.readline().removeprefix(codecs.BOM_UTF8)
    header = [name.strip() for name in _header(head, delimiter)]
    columns = schema.columns(header)
    if columns is None or len(set(header)) < len(header) or len(header) < 2:
        raise _NotPlain
    gathered = _Gathered(columns, model_field(header) if keeps_models else None)
    for chunk in _chunks(stream):
        gathered.add(_frame(chunk, delimiter, header, [*_names(columns), *gathered.model_column]))
    return gathered.table()


def _header(head: bytes, delimiter: str) -> list[str]:
    if b'"' in head or b"\r" in head.rstrip(b"\r\n"):
        raise _NotPlain
    try:
        return next(csv.reader([head.decode()], delimiter=delimiter), [])
    except UnicodeDecodeError:
        raise _NotPlain from None


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """The rest of the stream in pieces that end where a line ends; empty lines at its end are left out."""
    left = b""
    while more := stream.read(CHUNK_BYTES):
        end = more.rfind(b"\n") + 1
        if end:
            # Line ends wait for what follows them: at the end of the file they are no rows.
            lines = left + more[:end]
            kept = lines.rstrip(b"\r\n")
            if kept:
                yield kept
            left = lines[len(kept) :] + more[end:]
            left = left.removeprefix(b"\r").removeprefix(b"\n") if kept else left
        else:
            left += more
    if left := left.rstrip(b"\r\n"):
        yield left


def _frame(chunk: bytes, delimiter: str, header: list[str], names: list[str]) -> pl.DataFrame:
    """The columns of these names, as text. Raises where a line is not as many fields as the header."""
    import polars as pl

    rows = chunk.count(b"\n") + 1
    returns = chunk.count(b"\r")
    plain = (
        b'"' not in chunk
        and chunk.count(delimiter.encode()) == rows * (len(header) - 1)
        and returns == chunk.count(b"\r\n")
    )
    if not plain or not (chunk.isascii() or _is_text(chunk)):
        raise _NotPlain
    wanted = sorted({header.index(name) for name in names})
    try:
        frame = pl.read_csv(
            chunk,
            has_header=False,
            columns=wanted,
            infer_schema_length=0,
            separator=delimiter,
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        raise _NotPlain from None
    if frame.height != rows:
        raise _NotPlain
    return frame.rename(dict(zip(frame.columns, (header[place] for place in wanted), strict=True)))


def _names(columns: TableColumns) -> list[str]:
    names = (columns.time, columns.prompt_tokens, columns.output_tokens, columns.session)
    return [name for name in (*names, columns.total_tokens, columns.not_negative, columns.one) if name is not None]


def _is_text(chunk: bytes) -> bool:
    try:
        chunk.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass
class _Gathered:
    """What the chunks had, chunk by chunk."""

    columns: TableColumns
    model: str | None = None
    """The column with the model that a row asks, where that is kept."""
    units: set[str | None] = field(default_factory=set)
    times: list[npt.NDArray[Any]] = field(default_factory=list)
    prompts: list[npt.NDArray[np.int32]] = field(default_factory=list)
    outputs: list[npt.NDArray[np.int32]] = field(default_factory=list)
    sessions: list[pl.Series] = field(default_factory=list)
    models: list[pl.Series] = field(default_factory=list)

    @property
    def model_column(self) -> list[str]:
        return [] if self.model is None else [self.model]

    def add(self, frame: pl.DataFrame) -> None:
        columns = self.columns
        unit, times = _times(frame[columns.time], columns.unit)
        self.units.add(unit)
        self.times.append(times)
        prompt, output = _tokens(frame[columns.prompt_tokens]), _tokens(frame[columns.output_tokens])
        if columns.total_tokens is not None:
            _insist(bool(np.all(_tokens(frame[columns.total_tokens]) == prompt + output)))
        if columns.not_negative is not None:
            _insist(not frame[columns.not_negative].str.contains("-", literal=True).any())
        if columns.one is not None:
            _insist(bool((frame[columns.one] == "1").fill_null(False).all()))
        self.prompts.append(prompt.astype(np.int32))
        self.outputs.append(output.astype(np.int32))
        if columns.session is not None:
            self.sessions.append(frame[columns.session].str.strip_chars())
        if self.model is not None:
            self.models.append(frame[self.model].str.strip_chars())

    def table(self) -> Table:
        _insist(len(self.units) == 1)
        prompt = np.concatenate(self.prompts).astype(np.int64)
        rows = len(prompt)
        sessions, _ = _numbered(self.sessions, self.columns.no_session, rows)
        models, names = _numbered(self.models, ("",), rows)
        return Table(
            line=np.arange(2, rows + 2, dtype=np.int64),
            time=np.concatenate(self.times),
            unit=self.units.pop(),
            prompt_tokens=prompt,
            output_tokens=np.concatenate(self.outputs).astype(np.int64),
            session=sessions,
            has_ids=np.zeros(rows, dtype=np.int64),
            ids=np.zeros(0, dtype=np.int64),
            id_offsets=np.zeros(rows + 1, dtype=np.int64),
            model=models if names else None,
            model_names=names,
        )


def _numbered(parts: list[pl.Series], nobody: Collection[str], rows: int) -> tuple[Ints, tuple[str, ...]]:
    """Names as numbers in order of appearance, -1 for one of ``nobody``; and the names. Takes ``parts`` apart."""
    import polars as pl

    if not parts:
        return np.full(rows, -1, dtype=np.int64), ()
    names = pl.concat(parts).rename("name").to_frame()
    parts.clear()
    none = pl.col("name").is_null() | pl.col("name").is_in(list(nobody))
    names = names.select(pl.when(none).then(None).otherwise(pl.col("name")).alias("name"))
    known = names.drop_nulls().unique(maintain_order=True).with_row_index("number")
    found = names.with_row_index("row").join(known, on="name", how="left").sort("row")["number"]
    numbers: Ints = found.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64)
    return numbers, tuple(known["name"].to_list())


def _insist(plain: bool) -> None:
    if not plain:
        raise _NotPlain


def _all(mask: pl.Series) -> bool:
    return bool(mask.fill_null(False).all())


def _times(text: pl.Series, unit: str | None) -> tuple[str | None, npt.NDArray[Any]]:
    """Whole numbers stay whole; dates become nanoseconds since 1970."""
    import polars as pl

    if unit == DATE or (unit is None and "-" in (text[0] or "")):
        _insist(_all(text.str.contains(_DATE)))
        zoneless = text.str.replace(r"(\+00:?00|Z)$", "")
        dates = zoneless.str.to_datetime(_DATE_FORM, time_unit="ns", strict=False)
        _insist(not dates.null_count())
        return DATE, dates.to_physical().to_numpy()
    if _all(text.str.contains(_WHOLE_TIME)):
        times = text.cast(pl.Int64).to_numpy()
    else:
        _insist(_all(text.str.contains(f"^(?:{NUMBER})$")))
        times = text.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    _insist(bool(np.all((times >= 0) & (times <= MAX_TIME))))
    return unit, times


def _tokens(text: pl.Series) -> Ints:
    import polars as pl

    if _all(text.str.contains(_WHOLE)):
        tokens = text.cast(pl.Int64).to_numpy()
    else:
        _insist(_all(text.str.contains(f"^(?:{NUMBER})$")))
        numbers = text.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        _insist(bool(np.all((numbers == np.floor(numbers)) & (np.abs(numbers) <= MAX_TOKENS))))
        tokens = numbers.astype(np.int64)
    _insist(bool(np.all((tokens >= 0) & (tokens <= MAX_TOKENS))))
    return tokens
