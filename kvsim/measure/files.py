"""Files of a measurement: rows as JSON lines or Parquet, the server's counters beside, ``vllm bench serve``'s JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from datetime import datetime
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from kvsim.errors import ConfigError
from kvsim.export.base import with_part
from kvsim.export.bench_result import write_result
from kvsim.measure.result import ClientFacts, MeasuredRun, MetricsReading, RequestRow, ServerMetrics
from kvsim.report.atomic import replacing
from kvsim.validate.clients.documents import documents
from kvsim.validate.clients.measured import KEY, RUN, VERSION, MeasuredRow, opened
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.requests import Requests
from kvsim.validate.clients.result import ClientResult

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".jsonl", ".parquet")
_DIGITS = 6
"""Of seconds: a microsecond."""
_TIMES = ("scheduled_s", "sent_s", "first_token_s", "finish_s")
_BESIDE = "metrics"


def check_suffix(flag: str, path: Path) -> None:
    """Raise ``ConfigError`` where the name does not say which kind of file it is."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{flag} {str(path)!r}: allowed: a name that ends in {' or '.join(SUFFIXES)}")


def paths(path: Path) -> tuple[Path, Path]:
    """The files that are written for ``path``: the rows, and the server's counters."""
    return path, with_part(path, _BESIDE)


def write_rows(path: Path, run: MeasuredRun) -> list[Path]:
    """Write rows, and samples of ``/metrics`` where there are any; each file whole or not at all."""
    is_parquet = path.suffix.lower() == ".parquet"
    own, beside = paths(path)
    with replacing(own) as file:
        (_rows_as_parquet if is_parquet else _rows_as_lines)(file, run)
    if not run.metrics.samples:
        return [own]
    with replacing(beside) as file:
        readings = (asdict(reading) for reading in run.metrics.samples)
        if is_parquet:
            _packed(file, _frame(list(readings)))
        else:
            _lines(file, ({name: _rounded(value) for name, value in reading.items()} for reading in readings))
    return [own, beside]


def _rows_as_lines(file: IO[bytes], run: MeasuredRun) -> None:
    _lines(file, chain([_about(run)], map(_written, run.rows)))


def _lines(file: IO[bytes], objects: Iterator[dict[str, Any]]) -> None:
    for each in objects:
        file.write(json.dumps(each, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _rows_as_parquet(file: IO[bytes], run: MeasuredRun) -> None:
    import polars as pl

    frame = _frame([_written(row) for row in run.rows])
    _packed(file, frame.with_columns(pl.lit(json.dumps(_about(run), ensure_ascii=False)).alias(RUN)))


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    import polars as pl

    kinds = {"chunk_s": pl.List(pl.Float64), "chunk_tokens": pl.List(pl.Int64), "pieces": pl.List(pl.List(pl.Int64))}
    return pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None)


def _packed(file: IO[bytes], frame: pl.DataFrame) -> None:
    # Not by Polars itself: it writes past Python's file, and says what fails as exceptions of its own.
    packed = BytesIO()
    frame.write_parquet(packed)
    file.write(packed.getbuffer())


def _written(row: RequestRow) -> dict[str, Any]:
    found: dict[str, Any] = {each.name: getattr(row, each.name) for each in fields(row)}
    for name in _TIMES:
        found[name] = _rounded(found[name])
    found["chunk_s"] = [round(each, _DIGITS) for each in row.chunk_s]
    found["chunk_tokens"] = list(row.chunk_tokens)
    found["pieces"] = [list(piece) for piece in row.pieces]
    return found | {"lag_s": _rounded(row.lag_s)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


_ABOUT = (
    "url",
    "model",
    "endpoint",
    "workload",
    "seed",
    "started_at",
    "duration_s",
    "asked",
    "max_concurrency",
    "waits",
    "timeout_s",
    "incomplete",
    "notes",
    "server",
)


def _about(run: MeasuredRun) -> dict[str, Any]:
    """The run, without rows and samples."""
    found: dict[str, Any] = {KEY: VERSION} | {name: getattr(run, name) for name in _ABOUT}
    readings = {name: getattr(run.metrics, name) for name in ("before", "after")}
    found["metrics"] = {name: None if each is None else asdict(each) for name, each in readings.items()}
    found["client"] = None if run.client is None else asdict(run.client)
    return found


def write_bench(path: Path, run: MeasuredRun) -> None:
    """Write what ``vllm bench serve --save-result --save-detailed`` would have written."""
    rows, failed = run.answered, [row for row in run.rows if not row.is_ok]
    columns: dict[str, Callable[[RequestRow], Any]] = {
        "request_id": lambda row: row.request_id,
        "arrival_s": lambda row: row.sent_s,
        "first_token_s": lambda row: row.first_token_s,
        "finish_s": lambda row: row.finish_s,
        "prompt_tokens": lambda row: row.prompt_tokens,
        "output_tokens": lambda row: row.output_tokens,
    }
    table = {name: np.array([of(row) for row in rows], dtype=np.float64) for name, of in columns.items()}
    for name in ("request_id", "prompt_tokens", "output_tokens"):
        table[name] = table[name].astype(np.int64)
    errors = [f"{row.status}: {row.error}" if row.error else row.status for row in failed]
    with replacing(path) as file:
        write_result(
            file, _bench_head(run), table, list(run.gaps_s()), np.array([row.sent_s for row in failed]), errors
        )


def _bench_head(run: MeasuredRun) -> dict[str, object]:
    sent_s = [row.scheduled_s for row in run.rows]
    span_s = max(sent_s, default=0.0) - min(sent_s, default=0.0)
    is_paced = span_s > 0 and not run.waits and run.max_concurrency is None
    started = datetime.fromisoformat(run.started_at)
    return {
        "date": started.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai-chat" if run.endpoint == "chat" else "openai",
        "backend": "openai-chat" if run.endpoint == "chat" else "openai",
        "label": f"kvsim measure {'' if run.client is None else run.client.version}".rstrip(),
        "model_id": run.model,
        "tokenizer_id": run.model,
        "num_prompts": len(run.rows),
        "request_rate": (len(sent_s) - 1) / span_s if is_paced else "inf",
        "burstiness": None,
        "max_concurrency": run.max_concurrency,
    }


def measured_of(path: Path) -> tuple[MeasuredRun, ...]:
    """The runs of a file, or a folder: of ``kvsim measure`` whole, of other clients as if measured by it.

    Of others as far as their files have requests one by one: times and tokens, but neither chunks nor prompts.
    Raises ``ConfigError`` for a file that is not known, or has only sums.
    """
    if path.is_file() and path.suffix.lower() in SUFFIXES and _is_own(path):
        return (_own(path),)
    runs = [_of_client(load) for load in read_results(path) if load.rows is not None]
    if not runs:
        raise ConfigError(f"{path.name}: has sums and no single requests")
    return tuple(runs)


def _is_own(path: Path) -> bool:
    try:
        opened(path)
    except ConfigError:
        return False
    return True


def _own(path: Path) -> MeasuredRun:
    about, found = opened(path)
    values = {name: about.get(name) for name in _ABOUT}
    values["notes"] = tuple(values["notes"] or ())
    values["server"] = values["server"] or {}
    client, metrics = about.get("client"), about.get("metrics") or {}
    beside = paths(path)[1]
    samples = tuple(MetricsReading(**reading) for reading in _samples(beside)) if beside.is_file() else ()
    before, after = (
        None if metrics.get(name) is None else MetricsReading(**metrics[name]) for name in ("before", "after")
    )
    try:
        return MeasuredRun(
            rows=tuple(_row(row) for row in found),
            client=None if client is None else ClientFacts(**client),
            metrics=ServerMetrics(before, after, samples),
            **values,
        )
    except TypeError as error:
        raise ConfigError(f"{path.name}: not the facts of a run: {error}") from None


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix.lower() == ".parquet":
        import polars as pl

        yield from pl.read_parquet(path).iter_rows(named=True)
    else:
        yield from documents(path, {})


def _row(row: MeasuredRow) -> RequestRow:
    return RequestRow(**row._asdict())


def _of_client(load: ClientResult) -> MeasuredRun:
    requests = load.rows
    assert requests is not None
    first_s = np.nanmin(requests.sent_s) if not np.isnan(requests.sent_s).all() else 0.0
    rows = tuple(_foreign_row(requests, place, float(first_s)) for place in range(len(requests)))
    return MeasuredRun(
        rows=rows,
        duration_s=requests.span_s() or 0.0,
        model=load.model or "",
        workload=load.name,
        asked=len(rows),
        max_concurrency=load.traffic.max_in_flight,
        timeout_s=load.traffic.timeout_s,
        made_by=load.client,
        notes=(*load.definitions, *load.assumed),
    )


def _foreign_row(requests: Requests, place: int, first_s: float) -> RequestRow:
    """Where the time of sending was not recorded, it is 0."""

    def known(column: Any, default: float = 0.0) -> float:
        value = float(column[place])
        return default if np.isnan(value) else value

    sent_s = known(requests.sent_s, first_s) - first_s
    ttft_s, e2e_s = float(requests.ttft_s[place]), float(requests.e2e_s[place])
    return RequestRow(
        request_id=place,
        scheduled_s=sent_s,
        sent_s=sent_s,
        prompt_tokens=round(known(requests.prompt_tokens)),
        output_tokens=round(known(requests.output_tokens)),
        first_token_s=None if np.isnan(ttft_s) else sent_s + ttft_s,
        finish_s=None if np.isnan(e2e_s) else sent_s + e2e_s,
        status="ok" if requests.answered[place] else "failed",
    )
