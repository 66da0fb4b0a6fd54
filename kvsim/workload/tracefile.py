"""A trace file as records: CSV, one JSON object a line, or one JSON document of rows."""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TextIO, cast

from kvsim.errors import WorkloadError
from kvsim.workload import jsonstream
from kvsim.workload.records import Record

HEAD_ROWS = 16
_HEAD_CHARACTERS = 1 << 16
_GZIP = b"\x1f\x8b"
# A prompt of a million tokens has 62,500 ids of 16-token blocks, in one field of a CSV file.
csv.field_size_limit(1 << 27)
GZIP_FAULTS = (EOFError, zlib.error, gzip.BadGzipFile)


class TraceFile:
    """An existing file and how its records are laid out, found from its first characters.

    Raises ``WorkloadError`` for what is not there, not readable, not text or empty; so does every method.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise WorkloadError(_missing(self.path))
        with self._open() as stream:
            try:
                self.delimiter, self.layout = self._look(stream)
            except UnicodeDecodeError:
                raise self._not_text() from None
            except GZIP_FAULTS as fault:
                raise self._broken(fault) from None

    def _look(self, stream: TextIO) -> tuple[str, str]:
        head = stream.read(_HEAD_CHARACTERS)
        if not head.strip():
            raise WorkloadError(f"{self.path}: the file is empty; a trace needs at least one request")
        delimiter = max(",\t;", key=head.split("\n", 1)[0].count)
        if head.lstrip()[0] not in "[{":
            return delimiter, "csv"
        stream.seek(0)
        return delimiter, "json" if jsonstream.holds_rows(stream) else "jsonl"

    def _open(self) -> TextIO:
        try:
            if self._is_gzip():
                return io.TextIOWrapper(gzip.open(self.path), encoding="utf-8-sig", newline="")
            return self.path.open(encoding="utf-8-sig", newline="")
        except OSError as fault:
            raise WorkloadError(f"{self.path}: cannot be read: {fault.strerror}") from None

    def binary(self) -> IO[bytes]:
        """The content as bytes, decompressed."""
        return cast(IO[bytes], gzip.open(self.path)) if self._is_gzip() else self.path.open("rb")

    def _is_gzip(self) -> bool:
        with self.path.open("rb") as stream:
            return stream.read(2) == _GZIP

    def _broken(self, fault: Exception) -> WorkloadError:
        return WorkloadError(f"{self.path}: not a whole gzip file: {fault}")

    def _not_text(self) -> WorkloadError:
        return WorkloadError(f"{self.path}: not text in UTF-8; a trace is CSV, JSON lines or JSON")

    def records(self) -> Iterator[Record | WorkloadError]:
        """Every row in the order of the file, read as it is asked for.

        A row that is no record is yielded as the error it is, since the rows behind it can still be read.
        """
        readers = {"csv": self._csv, "jsonl": self._json_lines, "json": self._json}
        with self._open() as stream:
            try:
                yield from readers[self.layout](stream)
            except UnicodeDecodeError:
                raise self._not_text() from None
            except GZIP_FAULTS as fault:
                raise self._broken(fault) from None

    def first(self) -> Record:
        """The first row, which tells the schema."""
        for record in self.records():
            if isinstance(record, WorkloadError):
                raise record
            return record
        raise WorkloadError(f"{self.path}: no rows; a trace needs at least one request")

    def fields(self) -> list[str]:
        """The fields of the first rows together: JSON leaves out what a row does not have. Raises as ``first``."""
        known = dict.fromkeys(self.first().values)
        if self.layout != "csv":
            for record in islice(self.records(), HEAD_ROWS):
                if isinstance(record, WorkloadError):
                    break
                known.update(dict.fromkeys(record.values))
        return list(known)

    def sha256(self) -> str:
        """Of the whole file."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _csv(self, stream: TextIO) -> Iterator[Record | WorkloadError]:
        lines = csv.reader(stream, delimiter=self.delimiter)
        try:
            header = [name.strip() for name in next(lines)]
            for row in lines:
                if len(row) == len(header):
                    yield Record(self.path, lines.line_num, dict(zip(header, row, strict=True)))
                elif row:
                    yield self._at(lines.line_num, f"{len(row)} columns where the header has {len(header)}")
        except csv.Error as fault:
            raise self._at(lines.line_num, f"not CSV: {fault}") from None

    def _json_lines(self, stream: TextIO) -> Iterator[Record | WorkloadError]:
        for line, text in enumerate(stream, 1):
            if not text.strip():
                continue
            try:
                yield self._object(line, json.loads(text))
            except (ValueError, RecursionError) as fault:
                yield self._at(line, f"not JSON: {jsonstream.reason(fault)}")

    def _json(self, stream: TextIO) -> Iterator[Record | WorkloadError]:
        try:
            for line, row in jsonstream.rows(stream):
                yield self._object(line, row)
        except jsonstream.JsonFault as fault:
            raise self._at(fault.line, str(fault)) from None

    def _object(self, line: int, row: object) -> Record | WorkloadError:
        if isinstance(row, dict):
            return Record(self.path, line, row)
        return self._at(line, f"a row is a {type(row).__name__}; allowed: an object with one value per field")

    def _at(self, line: int, message: str) -> WorkloadError:
        return WorkloadError(f"{self.path}:{line}: {message}")


def _missing(path: Path) -> str:
    if path.exists():
        return f"{path}: not a file; allowed: a trace as CSV, JSON lines or JSON"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"{path}: no such file{f'; did you mean {path.parent / close[0]}?' if close else ''}"
