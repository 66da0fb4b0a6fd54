"""``kvsim measure``'s own file: an object about the run, and then one a request; or the same as Parquet.

It says of each prompt what it shares with others, so that a prediction has its hits as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import ConfigError
from kvsim.fields import MOST_S, Fields
from kvsim.validate.clients.documents import Reduction, documents
from kvsim.validate.clients.requests import Requests, Row, recorded_traffic, result_of, statistics
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import SentPrompts
from kvsim.workload.chains import Pieces
from kvsim.workload.workload import Floats

NAME = "kvsim measure"
KEY = "kvsim_measure"
"""Of the object about the run: the version of the format."""
VERSION = 1
RUN = "run"
"""Column of a Parquet file that holds this object, in every row."""


class NotMeasuredError(ConfigError):
    """A file that ``kvsim measure`` did not write."""


def _pair(piece: Any) -> object:
    whole = isinstance(piece, list | tuple) and len(piece) == 2 and all(type(each) is int for each in piece)
    return (piece[0], piece[1]) if whole and piece[1] > 0 else None


REDUCTIONS: dict[str, Reduction] = {"pieces": _pair}


class MeasuredRow(NamedTuple):
    """A request as the file has it, checked; times in seconds from the start of the run."""

    request_id: int
    scheduled_s: float
    sent_s: float
    prompt_tokens: int
    output_tokens: int
    asked_tokens: int
    cached_tokens: int | None
    first_token_s: float | None
    finish_s: float | None
    status: str
    error: str
    session_id: int
    output_chain: int
    pieces: tuple[tuple[int, int], ...]
    chunk_s: tuple[float, ...]
    chunk_tokens: tuple[int, ...]

    @property
    def answered(self) -> bool:
        return self.status == "ok"

    def gaps_s(self) -> Floats:
        """Between its tokens; those of one chunk came at once."""
        return np.diff(np.repeat(np.asarray(self.chunk_s), np.asarray(self.chunk_tokens, dtype=np.int64)))


def is_measured(values: object) -> bool:
    return isinstance(values, dict) and KEY in values


def opened(path: Path) -> tuple[Fields, Iterator[MeasuredRow]]:
    """The object about the run, and the requests. Raises ``ConfigError`` for another file."""
    found = _parquet(path) if path.suffix.lower() == ".parquet" else documents(path, REDUCTIONS)
    first = next(found)
    if not is_measured(first):
        raise NotMeasuredError(f"{path.name}: no file of {NAME}")
    return about(path.name, first), rows_of(path.name, found)


def about(file: str, values: Any) -> Fields:
    """The object about the run, of a version that is known."""
    fields = Fields(file, values)
    if values[KEY] != VERSION:
        raise fields.error(KEY, f"this kvsim reads version {VERSION}")
    return fields


def _parquet(path: Path) -> Iterator[Any]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path.name}: not readable as Parquet: {str(error).splitlines()[0]:.80}") from None
    if RUN not in frame.columns or not len(frame):
        raise NotMeasuredError(f"{path.name}: no file of {NAME}: it has no column {RUN!r}, or no rows")
    try:
        yield json.loads(frame[RUN][0])
    except (TypeError, ValueError):
        raise ConfigError(f"{path.name}: column {RUN!r}: must be the run's facts as JSON") from None
    for row in frame.drop(RUN).iter_rows(named=True):
        if isinstance(row.get("pieces"), list):
            row["pieces"] = [_pair(piece) for piece in row["pieces"]]
        yield row


def rows_of(file: str, documents: Iterable[Any]) -> Iterator[MeasuredRow]:
    """Raises ``ConfigError`` (file, request, key, value, what is allowed)."""
    for number, values in enumerate(documents, 1):
        yield _row(Fields(f"{file}: request {number:,}", values))


def _row(fields: Fields) -> MeasuredRow:
    sent_s = fields.number("sent_s", MOST_S * 366)
    return MeasuredRow(
        request_id=fields.whole("request_id", least=0),
        scheduled_s=fields.number("scheduled_s", MOST_S * 366),
        sent_s=sent_s,
        prompt_tokens=fields.count("prompt_tokens"),
        output_tokens=fields.count("output_tokens"),
        asked_tokens=fields.count("asked_tokens"),
        cached_tokens=fields.maybe_count("cached_tokens"),
        first_token_s=_later(fields, "first_token_s", sent_s),
        finish_s=_later(fields, "finish_s", sent_s),
        status=fields.text("status") or "ok",
        error=fields.text("error") or "",
        session_id=_whole(fields, "session_id"),
        output_chain=_whole(fields, "output_chain"),
        pieces=_pieces(fields),
        chunk_s=tuple(_numbers(fields, "chunk_s", float)),
        chunk_tokens=_chunk_tokens(fields),
    )


def _later(fields: Fields, key: str, sent_s: float) -> float | None:
    """A time that is not before the request was sent, but by the rounding of what is written."""
    if fields.get(key) is None:
        return None
    return max(sent_s, fields.number(key, MOST_S * 366, max(0.0, sent_s - 2e-6), "must be a time from sent_s on"))


def _whole(fields: Fields, key: str) -> int:
    value = fields.get(key)
    if value is None:
        return -1
    if not isinstance(value, int) or isinstance(value, bool):
        raise fields.error(key, "must be a whole number")
    return value


def _pieces(fields: Fields) -> tuple[tuple[int, int], ...]:
    found = fields.get("pieces") or []
    if not isinstance(found, list) or any(piece is None for piece in found):
        raise fields.error("pieces", "must be pairs of a chain and its tokens, 1 or more")
    return tuple(found)


def _numbers(fields: Fields, key: str, kind: type) -> list[Any]:
    found = fields.get(key) or []
    allowed = int if kind is int else int | float
    if not isinstance(found, list) or any(isinstance(each, bool) or not isinstance(each, allowed) for each in found):
        raise fields.error(key, "must be a list of numbers")
    return found


def _chunk_tokens(fields: Fields) -> tuple[int, ...]:
    found = _numbers(fields, "chunk_tokens", int)
    if len(found) != len(fields.get("chunk_s") or []) or any(each < 1 for each in found):
        raise fields.error("chunk_tokens", "must be whole numbers from 1, as many as chunk_s")
    return tuple(found)


def read_measured(fields: Fields, rows: Iterable[MeasuredRow]) -> ClientResult:
    """A run as one load, sent when it was; in a closed loop when the server's answers let it."""
    file = fields.file
    prompts: list[_Sent] = []
    gaps = [np.zeros(0)]

    def taken() -> Iterator[Row]:
        for row in rows:
            prompts.append(_Sent(row.sent_s, row.pieces, row.output_chain))
            if row.answered:
                gaps.append(row.gaps_s())
            yield _as_read(row)

    requests = Requests.of(file, taken())
    if not len(requests):
        raise ConfigError(f"{file}: no requests")
    traffic = replace(
        recorded_traffic(requests),
        max_in_flight=fields.maybe_count("max_concurrency") or None,
        timeout_s=fields.maybe("timeout_s"),
    )
    found = result_of(
        requests,
        traffic,
        name=file,
        client=NAME,
        span_s=None,
        gaps_s=statistics(np.concatenate(gaps)),
        model=fields.text("model"),
    )
    waits = "sent when they were: who waited for an answer does not wait here"
    assumed = (waits,) if fields.flag("waits", False) else ()
    sent = found.traffic.rows
    if sent is None or not all(each.pieces for each in prompts):
        return replace(found, assumed=("prompts share nothing", *assumed))
    shared = _prompts(prompts)
    rows_sent = replace(sent, prompt_tokens=shared.prompt_tokens, prompts=shared)
    return replace(found, traffic=replace(found.traffic, rows=rows_sent), assumed=assumed)


def _as_read(row: MeasuredRow) -> Row:
    ttft_s = None if row.first_token_s is None else row.first_token_s - row.sent_s
    e2e_s = None if row.finish_s is None else row.finish_s - row.sent_s
    return Row(row.sent_s, row.prompt_tokens, row.output_tokens, ttft_s, e2e_s, row.answered)


class _Sent(NamedTuple):
    sent_s: float
    pieces: tuple[tuple[int, int], ...]
    output_chain: int


def _prompts(found: list[_Sent]) -> SentPrompts:
    """In the order of sending, as :meth:`kvsim.validate.clients.requests.Requests.sent_rows` has it."""
    ordered = sorted(found, key=lambda each: each.sent_s)
    pairs = [piece for each in ordered for piece in each.pieces]
    pieces = Pieces(
        np.concatenate(([0], np.cumsum([len(each.pieces) for each in ordered]))).astype(np.int64),
        np.array([chain for chain, _ in pairs], dtype=np.int64),
        np.array([tokens for _, tokens in pairs], dtype=np.int32),
    )
    return SentPrompts(pieces, np.array([each.output_chain for each in ordered], dtype=np.int64))
