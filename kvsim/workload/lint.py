"""Checks of a trace: what cannot be right, and what a user should know before trusting a result.

Errors are contradictions inside the file; warnings are properties that surprise. One finding per rule, at the first
line it can be seen on, with how often it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kvsim.errors import WorkloadError
from kvsim.workload.info import Finding
from kvsim.workload.lint_hashes import hash_findings
from kvsim.workload.lint_times import time_findings
from kvsim.workload.rawtrace import RawTrace, in_sessions, read_raw, timed
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.workload import Ints

MIN_TURNS = 20
# Further than any published context reaches.
MAX_PROMPT_TOKENS = 2**22
# A log that was written twice has half of its rows twice; a retry now and then is part of the traffic.
DUPLICATE_SHARE = 0.01
# Chats that carry only a part of their history stay under this.
SHORT_SHARE = 0.75


def lint_trace(path: str | Path, reading: Reading = AS_IT_STANDS) -> list[Finding]:
    """Everything the rules find in a trace, errors first. Raises ``WorkloadError`` when it cannot be read at all.

    Rows without tokens are looked at in any case.
    """
    return lint_raw(timed(read_raw(path, reading, keeps_failed=True, tolerant=True)[1], reading))


def raise_first_error(path: Path, lint: tuple[Finding, ...]) -> None:
    """Raise ``WorkloadError`` for the first finding that is no mere warning."""
    for finding in lint:
        if finding.level == "error":
            raise WorkloadError(f"{path}:{finding.line}: {finding.rule}: {finding.message}")


def lint_raw(raw: RawTrace) -> list[Finding]:
    """The findings of a trace already read, errors first, else in the order of the rules."""
    findings = [*raw.faults]
    if len(raw.line):
        findings += [*_rows(raw), *_remarks(raw), *_duplicates(raw), *time_findings(raw)]
        findings += [*_sessions(raw), *hash_findings(raw)]
    return sorted(findings, key=lambda finding: finding.level)


def _rows(raw: RawTrace) -> Iterator[Finding]:
    (no_prompt,) = np.nonzero(raw.prompt_tokens == 0)
    if len(no_prompt):
        yield raw.finding("error", "zero-prompt", no_prompt, "without prompt tokens")
    (no_output,) = np.nonzero(raw.output_tokens == 0)
    if len(no_output):
        yield raw.finding("warning", "failed-row", no_output, "without output tokens: failed requests")
    (long,) = np.nonzero(np.maximum(raw.prompt_tokens, raw.output_tokens) > MAX_PROMPT_TOKENS)
    if len(long):
        what = f"with over {MAX_PROMPT_TOKENS:,} tokens, more than any context holds: are they characters?"
        yield raw.finding("warning", "long-row", long, what)


def _remarks(raw: RawTrace) -> Iterator[Finding]:
    """What the schema itself knows to be odd."""
    rows = f"of {len(raw.line):,} rows"
    if raw.contradictions:
        line, reason = raw.contradictions[0]
        message = f"{len(raw.contradictions):,} {rows} contradict themselves; the first: {reason}"
        yield Finding("error", "contradiction", line, message)
    if raw.doubts:
        line, reason = raw.doubts[0]
        yield Finding("warning", "doubtful-row", line, f"{len(raw.doubts):,} {rows} are doubtful; the first: {reason}")


def _duplicates(raw: RawTrace) -> Iterator[Finding]:
    """Only among rows that say whose they are: others with one time and one length may well be two requests."""
    (known,) = np.nonzero((raw.session >= 0) | (raw.has_ids == 1))
    if not len(known):
        return
    values = _fingerprints(raw)[known]
    again = np.delete(known, np.unique(values, return_index=True)[1])
    if len(again) > DUPLICATE_SHARE * len(known):
        yield raw.finding("warning", "duplicate-row", again, "that an earlier row equals in everything")


def _fingerprints(raw: RawTrace) -> npt.NDArray[np.uint64]:
    """A number for each row by which rows that are equal in everything are told."""
    mixed = _mixed(raw.time_s.view(np.uint64))
    for column in (raw.prompt_tokens, raw.output_tokens, raw.session):
        mixed = _mixed(mixed + column.astype(np.uint64))
    if raw.paths is not None and len(raw.paths.ids):
        entries = _mixed(raw.paths.ids.astype(np.uint64)) * (2 * raw.paths.index_in_request().astype(np.uint64) + 1)
        sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(entries, dtype=np.uint64)))[raw.paths.offsets]
        mixed = _mixed(mixed + np.diff(sums))
    return mixed


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Whole numbers scrambled (splitmix64's last step)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _sessions(raw: RawTrace) -> Iterator[Finding]:
    if not np.any(raw.session >= 0):
        return
    earlier, later = in_sessions(raw)
    if len(later):
        yield from _short_turns(raw, earlier, later)
    elif raw.paths is None and np.count_nonzero(raw.session >= 0) >= MIN_TURNS:
        first = int(raw.line[np.argmax(raw.session >= 0)])
        message = "every session is one request, and there are no hash ids: caching will show nothing"
        yield Finding("warning", "little-reuse", first, message)


def _short_turns(raw: RawTrace, earlier: Ints, later: Ints) -> Iterator[Finding]:
    """Turns shorter than what was said before and, where ids can tell, begun with other tokens."""
    short = raw.prompt_tokens[later] < raw.prompt_tokens[earlier] + raw.output_tokens[earlier]
    if raw.paths is not None:
        first = _first_ids(raw)
        short &= first[later] != first[earlier]
    if len(later) >= MIN_TURNS and np.mean(short) > SHORT_SHARE:
        what = (
            "are turns shorter than what their session has said before: rows may hold the new tokens alone, where "
            "kvsim takes each for the whole context"
        )
        yield raw.finding("warning", "short-turn", np.sort(later[short]), what)


def _first_ids(raw: RawTrace) -> Ints:
    """First hash id of each row, -1 where it has none."""
    assert raw.paths is not None
    first = np.full(len(raw.line), -1, dtype=np.int64)
    (given,) = np.nonzero(np.diff(raw.paths.offsets))
    first[given] = raw.paths.ids[raw.paths.offsets[given]]
    return first
