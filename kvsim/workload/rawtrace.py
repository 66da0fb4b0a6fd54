"""The rows of a trace file as columns, before anything is dropped, sorted or turned into requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kvsim.errors import WorkloadError
from kvsim.workload import columnar
from kvsim.workload.chains import HashPaths
from kvsim.workload.dequantise import spread
from kvsim.workload.formats import FORMATS, format_named
from kvsim.workload.formats.base import OneRow, Row, TraceFormat, model_field, model_name
from kvsim.workload.graph import Bools, Waits
from kvsim.workload.info import Finding
from kvsim.workload.reading import Reading
from kvsim.workload.records import Record
from kvsim.workload.table import Remarks, Table, TableBuilder
from kvsim.workload.times import DATE, PER_SECOND, likely_unit
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Floats, Ints

# Sizes that engines and public traces use for a block; what ids are tried against when the schema has no block.
USUAL_BLOCKS_TOKENS = (512, 16, 32, 64, 128, 256, 1024, 2048)
FITTING_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class RawTrace:
    """One entry per row, in the order of the file."""

    path: Path
    format: str
    line: Ints
    time_s: Floats
    """Since the smallest time."""
    prompt_tokens: Ints
    output_tokens: Ints
    session: Ints
    """Numbered in order of appearance; -1: none."""
    paths: HashPaths | None
    """``None`` when no row has ids."""
    hashed_tokens: Ints | None
    """Tokens of prompt and answer that ids go over; ``None``: those of the prompt."""
    has_ids: Ints
    """1 where the row gives ids, even an empty list."""
    ids_cover_prompt: bool
    notes: tuple[str, ...]
    contradictions: Remarks
    """Rows that cannot be true as they stand."""
    doubts: Remarks
    """Rows that a user should know about."""
    waits: Waits | None
    """Who waits for whom, perhaps for one later in the file; ``None``: the times are all given."""
    earliest_s: Floats | None
    """The earliest that each row which waits may be sent, on the clock of ``time_s``."""
    rank: Ints | None
    """Rows in an order in which none comes before one that it waits for; ``None``: that of the file."""
    faults: tuple[Finding, ...]
    """Rows that could not be read, when they were to be collected and not raised."""
    unit: str
    """What the file's times were taken for: a unit, or ``date``."""
    model: Ints | None = None
    """Numbers in ``model_names``, -1: the row names none; ``None``: not kept, or no row names one."""
    model_names: tuple[str, ...] = ()

    @property
    def failed(self) -> Ints:
        """The rows without prompt or output tokens."""
        (rows,) = np.nonzero((self.prompt_tokens == 0) | (self.output_tokens == 0))
        return rows

    @property
    def is_timed(self) -> Bools:
        """Whether the file gives the time of each row; kvsim finds that of those that wait for others."""
        waits = np.zeros(0, dtype=np.int64) if self.waits is None else self.waits.row
        timed: Bools = np.bincount(waits, minlength=len(self.line)) == 0
        return timed

    @property
    def hashed(self) -> Ints:
        """The tokens of each row that ids go over."""
        return self.prompt_tokens if self.hashed_tokens is None else self.hashed_tokens

    def finding(self, level: Literal["error", "warning"], rule: str, rows: Ints, what: str) -> Finding:
        """A finding about some rows, at the line of the first."""
        return Finding(level, rule, int(self.line[rows[0]]), f"{len(rows):,} of {len(self.line):,} rows {what}")


def in_sessions(raw: RawTrace) -> tuple[Ints, Ints]:
    """Rows and those that come next in the same session, in time order."""
    (rows,) = np.nonzero(raw.session >= 0)
    order = rows[np.lexsort((raw.time_s[rows], raw.session[rows]))]
    earlier, later = order[:-1], order[1:]
    same = raw.session[earlier] == raw.session[later]
    return earlier[same], later[same]


def read_raw(
    path: str | Path,
    reading: Reading,
    *,
    keeps_failed: bool = False,
    tolerant: bool = False,
    answer_s_per_token: float | None = None,
    keeps_models: bool = False,
) -> tuple[TraceFile, RawTrace]:
    """The rows of a file as they stand, up to the limit, not yet dequantised or scaled; what is behind is not read.

    ``keeps_failed``: rows without tokens count towards the limit. Raises ``WorkloadError`` for what cannot be read;
    ``tolerant`` collects rows that cannot as findings. Answers that later rows follow are taken to last
    ``answer_s_per_token``. ``keeps_models``: which model each row asks.
    """
    file = TraceFile(path)
    name = format_named(reading.fmt, file)
    schema = FORMATS[name](reading.hash_tokens_per_block)
    faults: list[Finding] = []
    table = columnar.read(file, schema, keeps_models=keeps_models) if reading.limit is None else None
    if table is None:

        def refuse(fault: WorkloadError) -> None:
            faults.append(_finding(file.path, str(fault)))

        told = refuse if tolerant else None
        builder = TableBuilder(file.path, reading.time_unit, answer_s_per_token, told, keeps_models)
        keeps_failed = keeps_failed or reading.include_failed
        table = _by_rows(file, schema, builder, reading.limit, keeps_failed, faults if tolerant else None, keeps_models)
    if not len(table.line) and not faults:
        raise WorkloadError(f"{file.path}: no rows; a trace needs at least one request")
    return file, _raw(file.path, name, schema, table, reading, faults)


def timed(raw: RawTrace, reading: Reading) -> RawTrace:
    """``raw`` at the times that ``reading`` makes of the file's."""
    time_s = raw.time_s
    if reading.dequantise and len(time_s):
        order = np.argsort(time_s, kind="stable")
        found = spread(time_s[order])
        if found is not None:
            time_s = np.empty_like(time_s)
            time_s[order] = found[0]
    if reading.arrival_scale != 1:
        time_s = time_s * reading.arrival_scale
    return raw if time_s is raw.time_s else replace(raw, time_s=time_s)


def _by_rows(
    file: TraceFile,
    schema: TraceFormat,
    builder: TableBuilder,
    limit: int | None,
    keeps_failed: bool,
    faults: list[Finding] | None,
    keeps_models: bool = False,
) -> Table:
    """Row by row; the faulty ones are added to ``faults``, or raised where there is none."""
    unit: str | None = None
    usable = count(1)
    for row in _rows(file, schema, faults, keeps_models and isinstance(schema, OneRow)):
        if builder.line and row.unit != unit:
            raise WorkloadError(f"{file.path}:{row.line}: times are dates in some rows and numbers in others")
        unit = row.unit
        builder.append(row)
        if (keeps_failed or (row.prompt_tokens and row.output_tokens)) and next(usable) == limit:
            return builder.table(unit, schema.answers, is_whole=False)
    return builder.table(unit, schema.answers)


def _rows(file: TraceFile, schema: TraceFormat, faults: list[Finding] | None, keeps_models: bool) -> Iterator[Row]:
    """``keeps_models``: with the model that each record, which is one row, asks."""
    records = file.records()
    is_over = False
    while not is_over:
        try:
            record = next(records, None)
            if isinstance(record, WorkloadError):
                raise record
            is_over = record is None
            rows = schema.rest() if record is None else schema.rows(record)
            yield from rows if record is None or not keeps_models else _with_model(record, rows)
        except WorkloadError as fault:
            if faults is None:
                raise
            faults.append(_finding(file.path, str(fault)))


def _with_model(record: Record, rows: Iterable[Row]) -> Iterator[Row]:
    field = model_field(record.values)
    model = None if field is None else model_name(record.values[field])
    return (row._replace(model=model) for row in rows)


def _finding(path: Path, message: str) -> Finding:
    """The fault of a row as a finding: its message begins with the path and the line."""
    line, _, rest = message.removeprefix(f"{path}:").partition(":")
    return Finding("error", "row", int(line), rest.strip()) if line.isdigit() else Finding("error", "file", 0, message)


def _unit(table: Table, asked: str) -> tuple[str, tuple[str, ...]]:
    """The unit of the times and what to tell about it. What the user asks for wins, dates excepted."""
    if table.unit == DATE:
        ignored = (f"the time unit '{asked}' is ignored: times are dates",) if asked != "auto" else ()
        return DATE, ignored
    if asked != "auto":
        return asked, ()
    if table.unit is not None:
        return table.unit, ()
    unit = likely_unit(table.time) if len(table.time) else "s"
    return unit, (f"times taken for '{unit}' by their spacing; --workload-time-unit says otherwise",)


def _raw(path: Path, name: str, schema: TraceFormat, table: Table, reading: Reading, faults: list[Finding]) -> RawTrace:
    unit, notes = _unit(table, reading.time_unit)
    per_second = PER_SECOND["ns" if unit == DATE else unit]
    if table.waits is not None:
        notes += (_waiting_words(table.waits, table.answer_s_per_token),)
    paths = None
    if len(table.ids):
        block, inferred = _block_tokens(path, schema, table.prompt_tokens, np.diff(table.id_offsets))
        paths = HashPaths(table.id_offsets, table.ids, block)
        notes += inferred
    notes += schema.notes
    return RawTrace(
        path=path,
        format=name,
        line=table.line,
        time_s=_seconds_since_first(table.time, per_second),
        prompt_tokens=table.prompt_tokens,
        output_tokens=table.output_tokens,
        session=table.session,
        paths=paths,
        hashed_tokens=table.hashed_tokens,
        has_ids=table.has_ids,
        ids_cover_prompt=schema.ids_cover_prompt,
        contradictions=table.contradictions,
        doubts=table.doubts,
        waits=None if table.waits is None else table.waits._replace(delay_s=table.waits.delay_s / per_second),
        earliest_s=_earliest_s(table, per_second),
        rank=table.rank,
        notes=notes,
        faults=tuple(faults),
        unit=unit,
        model=table.model,
        model_names=table.model_names,
    )


def _waiting_words(waits: Waits, answer_s_per_token: float) -> str:
    rows, counts = np.unique(waits.row, return_counts=True)
    what = "follow an answer after a delay: a closed loop"
    if counts.max() > 1 or waits.from_sent.any():
        joins = int((counts > 1).sum())
        what = f"wait for others, {joins:,} of them for several: a request graph"
    pace = f"answers last {answer_s_per_token * 1000:g} ms a token"
    return f"{len(rows):,} rows {what} (taken as an open one, to find rates, {pace})"


def _earliest_s(table: Table, per_second: int) -> Floats | None:
    """On the clock that begins with the first row; 0 where nothing is said."""
    if table.earliest is None:
        return None
    since_s = (table.earliest - float(table.time.min())) / per_second
    return np.where(table.earliest > 0, np.maximum(since_s, 0.0), 0.0)


def _seconds_since_first(times: npt.NDArray[Any], per_second: int) -> Floats:
    """Whole numbers are subtracted before they lose digits as floats."""
    if not len(times):
        return np.zeros(0)
    return np.asarray((times - times.min()) / per_second, dtype=np.float64)


def _block_tokens(path: Path, schema: TraceFormat, prompt: Ints, ids: Ints) -> tuple[int, tuple[str, ...]]:
    """The tokens of a block: the schema's or the user's, else the usual size that explains most rows' number of ids."""
    if schema.hash_block_tokens is not None:
        return schema.hash_block_tokens, ()
    prompt, ids = prompt[ids > 0], ids[ids > 0]
    fitting = {size: int(np.count_nonzero(-(-prompt // size) == ids)) for size in USUAL_BLOCKS_TOKENS}
    best = max(fitting, key=fitting.__getitem__)
    if fitting[best] < FITTING_SHARE * len(ids):
        raise WorkloadError(
            f"{path}: no usual block size explains the number of hash ids; say it with --workload-hash-tokens-per-block"
        )
    return best, (f"hash ids taken for blocks of {best} tokens, which fits {fitting[best]:,} of {len(ids):,} rows",)
