"""A trace file becomes a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.dequantise import dequantised
from kvsim.workload.graph import RequestGraph, ranges
from kvsim.workload.info import Finding, WorkloadInfo
from kvsim.workload.lint import lint_raw, raise_first_error
from kvsim.workload.prompts import content_of
from kvsim.workload.rawtrace import RawTrace, read_raw
from kvsim.workload.reading import FLAGS, Reading
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Ints, Workload

# A file up to this size is hashed whole even when only its head is wanted.
HASHED_BYTES = 64 * 1024**2


def read_trace(
    path: str | Path,
    fmt: str = "auto",
    limit: int | None = None,
    time_unit: str = "auto",
    arrival_scale: float = 1.0,
    include_failed: bool = False,
    hash_tokens_per_block: int | None = None,
    strict: bool = False,
    dequantise: bool = False,
) -> Workload:
    """The requests of a trace file, from the first arrival at 0 s, in time order (ties in file order).

    ``limit`` takes the first usable rows of the file and reads no further. ``arrival_scale`` multiplies times. Rows
    without prompt or output tokens are failures: left out, or with ``include_failed`` taken with one token. ``strict``
    raises the first lint error. ``dequantise`` spreads requests that share a time
    (:func:`kvsim.workload.dequantise.dequantised`). Raises ``WorkloadError`` with the file, the line, the field, the
    value and the limit.
    """
    reading = Reading(fmt, limit, time_unit, arrival_scale, include_failed, hash_tokens_per_block, strict, dequantise)
    return read_workload(path, reading)


def read_workload(
    path: str | Path, reading: Reading, answer_s_per_token: float | None = None, *, keeps_models: bool = False
) -> Workload:
    """The workload in a file, read as ``reading`` says; errors as of :func:`read_trace`.

    Answers that later rows follow are taken to last ``answer_s_per_token``. ``keeps_models``: which model each request
    asks (``Workload.model``), where rows are records of the file that say so.
    """
    file, raw = read_raw(path, reading, answer_s_per_token=answer_s_per_token, keeps_models=keeps_models)
    lint = tuple(lint_raw(raw))
    if reading.strict:
        raise_first_error(file.path, lint)
    workload = _workload(raw, _info(file, raw, lint, reading.limit), reading.include_failed)
    spread = dequantised(workload) if reading.dequantise else workload
    for flag, why in _ignored(reading, raw, is_spread=spread is not workload):
        spread = replace(spread, info=spread.info.noted(f"{FLAGS[flag]} is ignored: {why}"))
    return spread.scaled(reading.arrival_scale)


def _ignored(reading: Reading, raw: RawTrace, *, is_spread: bool) -> Iterator[tuple[str, str]]:
    """What was asked for and changes nothing on this trace, and why; of the time unit the raw trace tells."""
    if reading.hash_tokens_per_block is not None and raw.paths is None:
        yield "hash_tokens_per_block", "the trace has no hash ids"
    if reading.include_failed and not len(raw.failed):
        yield "include_failed", "every row has prompt and output tokens"
    if reading.dequantise and not is_spread:
        yield "dequantise", "no two requests share a time, or all do"


def _info(file: TraceFile, raw: RawTrace, lint: tuple[Finding, ...], limit: int | None) -> WorkloadInfo:
    notes = raw.notes
    if np.any(np.diff(raw.time_s[raw.is_timed]) < 0):
        notes += ("rows were not in time order: sorted",)
    hashed = limit is None or file.path.stat().st_size <= HASHED_BYTES
    if not hashed:
        notes += (f"no sha256: only the head of the file was read, {len(raw.line):,} rows",)
    return WorkloadInfo(
        source=str(file.path),
        format=raw.format,
        sha256=file.sha256() if hashed else None,
        hash_block_tokens=raw.paths.block_tokens if raw.paths else None,
        failed_rows=len(raw.failed),
        lint=lint,
        notes=notes,
        models=raw.model_names,
    )


def _workload(raw: RawTrace, info: WorkloadInfo, include_failed: bool) -> Workload:
    kept = np.ones(len(raw.line), dtype=np.bool_)
    if len(raw.failed):
        kept[raw.failed] = include_failed
        done = "taken with one token" if include_failed else "left out"
        info = info.noted(f"{len(raw.failed):,} of {len(raw.line):,} rows have no prompt or no output tokens: {done}")
    (rows,) = np.nonzero(kept)
    if not len(rows):
        raise WorkloadError(f"{raw.path}: all {len(raw.line):,} rows have no prompt or no output tokens; none is left")
    if raw.rank is not None:
        rows = raw.rank[kept[raw.rank]]
    rows = rows[np.argsort(raw.time_s[rows], kind="stable")]
    prompt_tokens = np.maximum(raw.prompt_tokens[rows], 1)
    content = content_of(raw, rows, prompt_tokens)
    arrival_s = raw.time_s[rows]
    return Workload(
        arrival_s=arrival_s - arrival_s[0],
        prompt_tokens=prompt_tokens.astype(np.int32),
        output_tokens=np.maximum(raw.output_tokens[rows], 1).astype(np.int32),
        session_id=raw.session[rows],
        output_chain=content.output_chain,
        piece_offsets=content.pieces.offsets,
        piece_chain=content.pieces.chain,
        piece_tokens=content.pieces.tokens,
        info=content.described(info),
        graph=_graph(raw, rows, float(arrival_s[0])),
        model=None if raw.model is None else raw.model[rows].astype(np.int32),
    )


def _graph(raw: RawTrace, rows: Ints, start_s: float) -> RequestGraph | None:
    """Whom each of ``rows`` waits for, by their new numbers; ``start_s`` is when their clock begins.

    Where one of those was left out it waits for what that one waits for, and the delays add up.
    """
    if raw.waits is None or raw.earliest_s is None:
        return None
    number = np.full(len(raw.line), -1, dtype=np.int64)
    number[rows] = np.arange(len(rows))
    earliest_s = np.where(raw.earliest_s > 0, np.maximum(raw.earliest_s - start_s, 0.0), 0.0)
    order = np.argsort(raw.waits.row, kind="stable")
    every = raw.waits.those(order)
    first = np.concatenate(([0], np.cumsum(np.bincount(every.row, minlength=len(number)))))
    waits = every.those(number[every.row] >= 0)
    while len(lost := np.flatnonzero(number[waits.on] < 0)):
        gone = waits.those(lost)
        counts = (first[1:] - first[:-1])[gone.on]
        free = counts == 0
        np.maximum.at(earliest_s, gone.row[free], raw.time_s[gone.on[free]] - start_s + gone.delay_s[free])
        np.maximum.at(earliest_s, gone.row, np.where(earliest_s[gone.on] > 0, earliest_s[gone.on] + gone.delay_s, 0.0))
        beyond = every.those(ranges(first[gone.on], counts))
        bridged = beyond._replace(
            row=np.repeat(gone.row, counts), delay_s=beyond.delay_s + np.repeat(gone.delay_s, counts)
        )
        waits = waits.those(number[waits.on] >= 0).and_those(bridged)
    return RequestGraph.of(waits._replace(row=number[waits.row], on=number[waits.on]), len(rows), earliest_s[rows])
