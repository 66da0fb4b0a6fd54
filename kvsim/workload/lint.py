"""Checks of a trace: what cannot be right, and what a user should know before trusting a result.

Errors are contradictions inside the file; warnings are properties that surprise. One finding per rule, at the first
line it holds for, with how often it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kvsim.workload.chains import HashPaths
from kvsim.workload.formats import FORMATS, format_named
from kvsim.workload.hits import hash_hit_rates
from kvsim.workload.info import Finding
from kvsim.workload.rawtrace import RawTrace, collect
from kvsim.workload.tracefile import TraceFile
from kvsim.workload.workload import Ints

# Thresholds of suspicion: wide enough that published traces of real services pass.
MIN_ROWS = 20
COARSE_SHARE = 0.5
MAX_MEAN_RATE_PER_S = 10_000
MAX_MEAN_GAP_S = 3600
MAX_SPAN_S = 366 * 86_400
MIN_HIT_RATE = 0.01


def lint_trace(path: str | Path, fmt: str = "auto", hash_tokens_per_block: int | None = None) -> list[Finding]:
    """Everything the rules find in a trace, errors first. Raises ``WorkloadError`` when it cannot be read at all."""
    file = TraceFile(path)
    name = format_named(fmt, file)
    schema = FORMATS[name](hash_tokens_per_block)
    raw = collect(file, name, schema, limit=None, time_unit="auto", include_failed=True, tolerant=True)
    return lint_raw(raw)


def lint_raw(raw: RawTrace) -> list[Finding]:
    """The findings of a trace already read, errors first, else in the order of the rules."""
    findings = [*raw.faults]
    if len(raw.line):
        findings += [*_failed_rows(raw), *_contradictions(raw), *_times(raw), *_hash_ids(raw)]
    return sorted(findings, key=lambda finding: finding.level)


def _failed_rows(raw: RawTrace) -> Iterator[Finding]:
    (no_prompt,) = np.nonzero(raw.prompt_tokens == 0)
    if len(no_prompt):
        yield _at(raw, "error", "zero-prompt", no_prompt, "without prompt tokens")
    (no_output,) = np.nonzero(raw.output_tokens == 0)
    if len(no_output):
        yield _at(raw, "warning", "failed-row", no_output, "without output tokens: failed requests")


def _contradictions(raw: RawTrace) -> Iterator[Finding]:
    if raw.contradictions:
        line, reason = raw.contradictions[0]
        message = f"{len(raw.contradictions):,} of {len(raw.line):,} rows contradict themselves; the first: {reason}"
        yield Finding("error", "contradiction", line, message)


def _times(raw: RawTrace) -> Iterator[Finding]:
    (back,) = np.nonzero(np.diff(raw.time_s) < 0)
    if len(back):
        yield _at(raw, "warning", "unsorted", back + 1, "earlier than the row before")
    rows = len(raw.time_s)
    distinct = np.unique(raw.time_s)
    whole = len(distinct) < rows and not np.any(distinct % 1)
    if rows >= MIN_ROWS and (len(distinct) <= COARSE_SHARE * rows or whole):
        gap_s = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 0.0
        seen = np.unique(raw.time_s, return_index=True)[1]
        first = int(np.setdiff1d(np.arange(rows), seen)[0])
        message = (
            f"{len(distinct):,} distinct times among {rows:,} rows, about {gap_s:.3g} s apart"
            f"{', all whole seconds' if whole else ''}: bursts that the service did not see; --workload-dequantise "
            "spreads them"
        )
        yield Finding("warning", "coarse-times", int(raw.line[first]), message)
    yield from _unit(raw, float(distinct[-1]), rows)


def _unit(raw: RawTrace, span_s: float, rows: int) -> Iterator[Finding]:
    gap_s = span_s / max(rows - 1, 1)
    if span_s > MAX_SPAN_S or gap_s > MAX_MEAN_GAP_S:
        message = f"{rows:,} requests in {span_s:,.0f} s, {gap_s:,.1f} s apart: is the time unit too coarse?"
    elif rows >= MIN_ROWS and 0 <= gap_s < 1 / MAX_MEAN_RATE_PER_S:
        message = f"{rows:,} requests in {span_s:.3g} s: is the time unit too fine?"
    else:
        return
    yield Finding("warning", "time-unit", int(raw.line[0]), message)


def _hash_ids(raw: RawTrace) -> Iterator[Finding]:
    if raw.paths is None:
        return
    needed = -(-raw.prompt_tokens // raw.paths.block_tokens)
    given = np.diff(raw.paths.offsets)
    if raw.ids_cover_prompt:
        yield from _id_counts(raw, needed, given)
    yield from _prefixes(raw)
    yield from _reuse(raw)


def _id_counts(raw: RawTrace, needed: Ints, given: Ints) -> Iterator[Finding]:
    for rule, wrong in (("few-hash-ids", given < needed), ("many-hash-ids", given > needed)):
        (rows,) = np.nonzero(wrong)
        if len(rows):
            row = int(rows[0])
            yield _at(
                raw,
                "error",
                rule,
                rows,
                f"whose number of hash ids is not ceil(prompt tokens / hash block); the first has {given[row]} ids for "
                f"{raw.prompt_tokens[row]:,} tokens, {needed[row]} of {_block(raw)} tokens are allowed",
            )


def _prefixes(raw: RawTrace) -> Iterator[Finding]:
    assert raw.paths is not None
    ids = raw.paths.ids
    parent = np.concatenate(([-1], ids[:-1]))
    parent[raw.paths.index_in_request() == 0] = -1
    # Written backwards, so that each id keeps the parent it had first.
    first_parent = np.empty(int(ids.max()) + 1, dtype=np.int64)
    first_parent[ids[::-1]] = parent[::-1]
    (entries,) = np.nonzero(parent != first_parent[ids])
    if len(entries):
        rows = np.unique(raw.paths.requests()[entries])
        yield _at(raw, "error", "hash-prefix", rows, "with a hash id that has another prefix in an earlier row")


def _reuse(raw: RawTrace) -> Iterator[Finding]:
    assert raw.paths is not None
    rows = int(np.count_nonzero(np.diff(raw.paths.offsets)))
    if rows < MIN_ROWS:
        return
    first = int(raw.line[np.flatnonzero(np.diff(raw.paths.offsets))[0]])
    if everywhere := _ids_in_every_row(raw.paths, rows):
        message = f"{everywhere} hash id(s) in every row with ids: a common system prompt, or a padding block"
        yield Finding("warning", "block-everywhere", first, message)
    rate = hash_hit_rates(raw.paths.within(raw.prompt_tokens), raw.prompt_tokens).all_ids or 0.0
    if rate < MIN_HIT_RATE:
        message = f"{rate:.2%} of hash ids were seen before, under {MIN_HIT_RATE:.0%}: caching will show nothing"
        yield Finding("warning", "little-reuse", first, message)


def _ids_in_every_row(paths: HashPaths, rows: int) -> int:
    (frequent,) = np.nonzero(np.bincount(paths.ids) >= rows)
    requests = paths.requests()
    return sum(len(np.unique(requests[paths.ids == hash_id])) == rows for hash_id in frequent)


def _block(raw: RawTrace) -> int:
    return raw.paths.block_tokens if raw.paths else 0


def _at(raw: RawTrace, level: str, rule: str, rows: Ints, what: str) -> Finding:
    message = f"{len(rows):,} of {len(raw.line):,} rows {what}"
    return Finding("error" if level == "error" else "warning", rule, int(raw.line[rows[0]]), message)
