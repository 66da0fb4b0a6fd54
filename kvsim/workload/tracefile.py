"""A trace file as records: CSV, one JSON object a line, or one JSON document of rows."""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TextIO, cast

from kvsim.errors import WorkloadError
from kvsim.workload import jsonstream, loglines
from kvsim.workload.records import Record

HEAD_ROWS = 16
_HEAD_CHARACTERS = 1 << 16
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# A prompt of a million tokens has 62,500 ids of 16-token blocks, in one field of a CSV file.
csv.field_size_limit(1 << 27)
GZIP_FAULTS = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
"""What a compressed file that is cut or damaged raises."""
_UTF8 = "utf-8-sig"
_ASCII_SHARE = 0.5
"""Share of ASCII among the characters of a file in UTF-16, at least: other bytes make letters of far languages."""


class TraceFile:
    """An existing file and how its records are laid out, found from its first characters.

    Raises ``WorkloadError`` for what is not there, not readable, not text or empty; so does every method.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise WorkloadError(_missing(self.path))
        self.encoding = self._encoding()
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
        if not self.is_utf8 and sum(map(str.isascii, head)) < _ASCII_SHARE * len(head):
            raise self._not_text()
        delimiter = max(",\t;", key=head.split("\n", 1)[0].count)
        if head.lstrip()[0] not in "[{":
            return delimiter, "log" if loglines.is_log(head) else "csv"
        stream.seek(0)
        if jsonstream.holds_rows(stream):
            return delimiter, "json"
        stream.seek(0)
        document = jsonstream.document(stream)
        if document is not None:
            raise WorkloadError(f"{self.path}: {document}; allowed: one JSON object a line, or a list of them")
        return delimiter, "jsonl"

    def _open(self) -> TextIO:
        return io.TextIOWrapper(self.binary(), encoding=self.encoding, newline="")

    def binary(self) -> IO[bytes]:
        """The content as bytes, decompressed. Raises ``WorkloadError``."""
        try:
            with self.path.open("rb") as stream:
                magic = stream.read(4)
            if magic[:2] == _GZIP:
                return cast(IO[bytes], gzip.open(self.path))
            return self._zipped() if magic == _ZIP else self.path.open("rb")
        except OSError as fault:
            raise WorkloadError(f"{self.path}: cannot be read: {fault.strerror}") from None
        except zipfile.BadZipFile as fault:
            raise self._broken(fault) from None

    def _zipped(self) -> IO[bytes]:
        """The one file of an archive; what some systems add beside it does not count."""
        archive = zipfile.ZipFile(self.path)
        names = [name for name in archive.namelist() if not name.endswith("/") and not _is_hidden(name)]
        if len(names) != 1:
            listed = f": {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else ""
            raise WorkloadError(f"{self.path}: {len(names):,} files in it{listed}; allowed: a zip file of one trace")
        try:
            return archive.open(names[0])
        except (RuntimeError, NotImplementedError) as fault:  # a password is asked for, or an unknown compression
            raise WorkloadError(f"{self.path}: {names[0]} cannot be read: {fault}") from None

    def _encoding(self) -> str:
        """By the first bytes: UTF-16 where they say so, or where every second one is empty, else UTF-8."""
        with self.binary() as stream:
            try:
                head = stream.read(4)
            except GZIP_FAULTS as fault:
                raise self._broken(fault) from None
        if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        if len(head) == 4 and not head.startswith(b"\0\0"):
            if head[1] == head[3] == 0:
                return "utf-16-le"
            if head[0] == head[2] == 0:
                return "utf-16-be"
        return _UTF8

    @property
    def is_utf8(self) -> bool:
        return self.encoding == _UTF8

    def _broken(self, fault: Exception) -> WorkloadError:
        return WorkloadError(f"{self.path}: not a whole compressed file: {fault}")

    def _not_text(self) -> WorkloadError:
        return WorkloadError(f"{self.path}: not text in UTF-8 or UTF-16; a trace is CSV, JSON lines or JSON")

    def records(self) -> Iterator[Record | WorkloadError]:
        """Every row in the order of the file, read as it is asked for.

        A row that is no record is yielded as the error it is, since the rows behind it can still be read.
        """
        readers = {"csv": self._csv, "jsonl": self._json_lines, "json": self._json, "log": self._log}
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
        if self.layout == "log":
            logged = "vllm serve --enable-log-requests says them, of older versions all without --disable-log-requests"
            raise WorkloadError(f"{self.path}: a log without 'Received request' lines; {logged}")
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
        """Sha256 of the whole file."""
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

    def _log(self, stream: TextIO) -> Iterator[Record | WorkloadError]:
        for line, values in loglines.requests(stream):
            yield Record(self.path, line, values)

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
            for line, row, head in jsonstream.rows(stream):
                yield self._object(line, row, head)
        except jsonstream.JsonFault as fault:
            raise self._at(fault.line, str(fault)) from None

    def _object(self, line: int, row: object, head: Mapping[str, object] | None = None) -> Record | WorkloadError:
        if isinstance(row, dict):
            return Record(self.path, line, row) if head is None else Record(self.path, line, row, head)
        return self._at(line, f"a row is a {type(row).__name__}; allowed: an object with one value per field")

    def _at(self, line: int, message: str) -> WorkloadError:
        return WorkloadError(f"{self.path}:{line}: {message}")


def _is_hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _missing(path: Path) -> str:
    if path.exists():
        return f"{path}: not a file; allowed: a trace as CSV, JSON lines or JSON"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"{path}: no such file{f'; did you mean {path.parent / close[0]}?' if close else ''}"
