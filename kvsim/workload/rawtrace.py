"""The rows of a trace file as columns, before anything is dropped, sorted or turned into requests."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.chains import HashPaths
from kvsim.workload.formats.base import Row, TraceFormat
from kvsim.workload.info import Finding
from kvsim.workload.times import DATE, PER_SECOND, likely_unit
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Floats, Ints

# Sizes that engines and public traces use for a block; what ids are tried against when the schema has no block.
USUAL_BLOCKS_TOKENS = (512, 16, 32, 64, 128, 256, 1024, 2048)
FITTING_SHARE = 0.5
# Of an open loop: how long the answer is taken to last that a later turn follows; 50 tokens/s.
ANSWER_MS_PER_TOKEN = 20


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
    has_ids: Ints
    """1 where the row gives ids, even an empty list."""
    ids_cover_prompt: bool
    notes: tuple[str, ...]
    contradictions: tuple[tuple[int, str], ...]
    """Line and reason of rows that cannot be true as they stand."""
    after: Ints | None
    """The row whose answer each waits for, -1: none; ``None``: the times are all given."""
    think_s: Floats | None
    """From that answer to this row."""
    faults: tuple[Finding, ...]
    """Rows that could not be read, when they were to be collected and not raised."""

    @property
    def failed(self) -> Ints:
        """The rows without prompt or output tokens."""
        (rows,) = np.nonzero((self.prompt_tokens == 0) | (self.output_tokens == 0))
        return rows


class _Columns:
    """Columns that grow row by row. Sessions and hash ids become small numbers in order of appearance."""

    def __init__(self) -> None:
        self.line = array("q")
        self.time: list[int | float] = []
        self.prompt = array("q")
        self.output = array("q")
        self.session = array("q")
        self.has_ids = array("q")
        self.ids = array("q")
        self.id_offsets = array("q", [0])
        self.contradictions: list[tuple[int, str]] = []
        self.after: dict[int, int] = {}
        self.delay: dict[int, int | float] = {}
        self._latest: dict[int, int] = {}
        self._sessions: dict[str, int] = {}
        self._hashes: dict[int | str | bytes, int] = {}

    def append(self, row: Row) -> None:
        self.line.append(row.line)
        known = self._sessions
        session = -1 if row.session is None else known.setdefault(row.session, len(known))
        self.session.append(session)
        self.time.append(self._following(row, session) if row.follows else row.time)
        if session >= 0:
            self._latest[session] = len(self.time) - 1
        self.prompt.append(row.prompt_tokens)
        self.output.append(row.output_tokens)
        if row.contradiction:
            self.contradictions.append((row.line, row.contradiction))
        self.has_ids.append(row.hash_ids is not None)
        self._append_ids(row.hash_ids or ())
        self.id_offsets.append(len(self.ids))

    def _following(self, row: Row, session: int) -> int | float:
        """The time of a row that follows an answer, in milliseconds, as if that took an ordinary time."""
        before = self._latest.get(session)
        if before is None:
            return row.time
        place = len(self.time)
        self.after[place], self.delay[place] = before, row.time
        return self.time[before] + self.output[before] * ANSWER_MS_PER_TOKEN + row.time

    def _append_ids(self, hash_ids: Sequence[int | str | bytes]) -> None:
        known = self._hashes
        for hash_id in hash_ids:
            number = known.get(hash_id)
            if number is None:
                number = known[hash_id] = len(known)
            self.ids.append(number)


def collect(
    file: TraceFile,
    name: str,
    schema: TraceFormat,
    *,
    limit: int | None,
    time_unit: str,
    include_failed: bool,
    tolerant: bool = False,
) -> RawTrace:
    """The rows of ``file`` up to ``limit`` usable ones; nothing behind them is read.

    ``tolerant`` collects rows that cannot be read as findings instead of raising ``WorkloadError`` for the first.
    """
    columns = _Columns()
    faults: list[Finding] = []
    unit: str | None = None
    usable = count(1)
    for row in _rows(file, schema, faults if tolerant else None):
        if columns.line and row.unit != unit:
            raise WorkloadError(f"{file.path}:{row.line}: times are dates in some rows and numbers in others")
        unit = row.unit
        columns.append(row)
        if (include_failed or (row.prompt_tokens and row.output_tokens)) and next(usable) == limit:
            break
    if not columns.line and not faults:
        raise WorkloadError(f"{file.path}: no rows; a trace needs at least one request")
    return _raw(file.path, name, schema, columns, _unit(unit, time_unit, columns.time), faults)


def _rows(file: TraceFile, schema: TraceFormat, faults: list[Finding] | None) -> Iterator[Row]:
    records = file.records()
    while True:
        try:
            record = next(records, None)
            if record is None:
                return
            if isinstance(record, WorkloadError):
                raise record
            yield schema.row(record)
        except WorkloadError as fault:
            if faults is None:
                raise
            faults.append(_finding(file.path, str(fault)))


def _finding(path: Path, message: str) -> Finding:
    """The fault of a row as a finding: its message begins with the path and the line."""
    line, _, rest = message.removeprefix(f"{path}:").partition(":")
    return Finding("error", "row", int(line), rest.strip()) if line.isdigit() else Finding("error", "file", 0, message)


def _unit(given: str | None, asked: str, times: Sequence[int | float]) -> tuple[str, tuple[str, ...]]:
    """The unit of the times and what to tell about it. What the user asks for wins, dates excepted."""
    if given == DATE:
        ignored = (f"the time unit '{asked}' is ignored: times are dates",) if asked != "auto" else ()
        return DATE, ignored
    if asked != "auto":
        return asked, ()
    if given is not None:
        return given, ()
    unit = likely_unit(times) if times else "s"
    return unit, (f"times taken for '{unit}' by their spacing; --workload-time-unit says otherwise",)


def _raw(
    path: Path,
    name: str,
    schema: TraceFormat,
    columns: _Columns,
    unit: tuple[str, tuple[str, ...]],
    faults: list[Finding],
) -> RawTrace:
    prompt = np.array(columns.prompt, dtype=np.int64)
    offsets = np.array(columns.id_offsets, dtype=np.int64)
    notes = unit[1]
    after, think_s = _followers(columns)
    if after is not None:
        notes += (
            f"{int((after >= 0).sum()):,} rows follow an answer after a delay: a closed loop (taken as an open one, to "
            f"find rates, answers last {ANSWER_MS_PER_TOKEN} ms a token)",
        )
    paths = None
    if columns.ids:
        block, inferred = _block_tokens(path, schema, prompt, np.diff(offsets))
        paths = HashPaths(offsets, np.array(columns.ids, dtype=np.int64), block)
        notes += inferred
    return RawTrace(
        path=path,
        format=name,
        line=np.array(columns.line, dtype=np.int64),
        time_s=_seconds_since_first(columns.time, unit[0]),
        prompt_tokens=prompt,
        output_tokens=np.array(columns.output, dtype=np.int64),
        session=np.array(columns.session, dtype=np.int64),
        paths=paths,
        has_ids=np.array(columns.has_ids, dtype=np.int64),
        ids_cover_prompt=schema.ids_cover_prompt,
        contradictions=tuple(columns.contradictions),
        after=after,
        think_s=think_s,
        notes=notes,
        faults=tuple(faults),
    )


def _followers(columns: _Columns) -> tuple[Ints | None, Floats | None]:
    if not columns.after:
        return None, None
    after, think_s = np.full(len(columns.line), -1, dtype=np.int64), np.zeros(len(columns.line))
    places = np.fromiter(columns.after, dtype=np.int64)
    after[places] = np.fromiter(columns.after.values(), dtype=np.int64)
    think_s[places] = np.fromiter(columns.delay.values(), dtype=np.float64) / PER_SECOND["ms"]
    return after, think_s


def _seconds_since_first(times: Sequence[int | float], unit: str) -> Floats:
    """Whole numbers are subtracted before they lose digits as floats."""
    if not times:
        return np.zeros(0)
    numbers = np.array(times)
    return np.asarray((numbers - numbers.min()) / PER_SECOND["ns" if unit == DATE else unit], dtype=np.float64)


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
