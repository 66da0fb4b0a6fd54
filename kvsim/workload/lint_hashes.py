"""Checks of a trace's hash ids: against token counts, against each other, and whether they are worth a cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvsim.workload.chains import HashPaths
from kvsim.workload.hits import hash_hit_rates
from kvsim.workload.info import Finding
from kvsim.workload.rawtrace import RawTrace
from kvsim.workload.workload import Ints

MIN_ROWS = 20
MIN_HIT_RATE = 0.01


def hash_findings(raw: RawTrace) -> Iterator[Finding]:
    """Nothing where no row has ids."""
    if raw.paths is None:
        return
    (without,) = np.nonzero(raw.has_ids == 0)
    if len(without):
        yield raw.finding("warning", "no-hash-ids", without, "without hash ids, where others have them: nothing hits")
    if raw.ids_cover_prompt:
        yield from _counts(raw, raw.paths)
        yield from _lengths(raw, raw.paths)
    yield from _prefixes(raw, raw.paths)
    yield from _reuse(raw, raw.paths)


def _counts(raw: RawTrace, paths: HashPaths) -> Iterator[Finding]:
    needed = np.where(raw.has_ids == 1, -(-raw.prompt_tokens // paths.block_tokens), 0)
    given = np.diff(paths.offsets)
    for rule, wrong in (("few-hash-ids", given < needed), ("many-hash-ids", given > needed)):
        (rows,) = np.nonzero(wrong)
        if len(rows):
            row = int(rows[0])
            yield raw.finding(
                "error",
                rule,
                rows,
                f"whose number of hash ids is not ceil(prompt tokens / hash block); the first has {given[row]} ids for "
                f"{raw.prompt_tokens[row]:,} tokens, {needed[row]} of {paths.block_tokens} tokens are allowed",
            )


def _lengths(raw: RawTrace, paths: HashPaths) -> Iterator[Finding]:
    """An id names a content, and so a length. Ids beyond the prompt are found by their number."""
    left = paths.lengths(raw.prompt_tokens)
    length = np.clip(left, 0, paths.block_tokens)
    first = _of_first_entry(paths.ids, length)
    (entries,) = np.nonzero((length != first[paths.ids]) & (left > 0) & (first[paths.ids] > 0))
    if len(entries):
        rows = np.unique(paths.requests()[entries])
        yield raw.finding("error", "hash-length", rows, "with a hash id that covers another number of tokens earlier")


def _prefixes(raw: RawTrace, paths: HashPaths) -> Iterator[Finding]:
    parent = np.concatenate(([-1], paths.ids[:-1]))
    parent[paths.index_in_request() == 0] = -1
    (entries,) = np.nonzero(parent != _of_first_entry(paths.ids, parent)[paths.ids])
    if len(entries):
        rows = np.unique(paths.requests()[entries])
        yield raw.finding("error", "hash-prefix", rows, "with a hash id that has another prefix earlier")


def _of_first_entry(ids: Ints, values: Ints) -> Ints:
    """For each id the value of its first entry: written backwards, so that the first is written last."""
    first = np.empty(int(ids.max()) + 1, dtype=np.int64)
    first[ids[::-1]] = values[::-1]
    return first


def _reuse(raw: RawTrace, paths: HashPaths) -> Iterator[Finding]:
    (with_ids,) = np.nonzero(np.diff(paths.offsets))
    if len(with_ids) < MIN_ROWS:
        return
    line = int(raw.line[with_ids[0]])
    if everywhere := _ids_in_every_row(paths, len(with_ids)):
        message = f"{everywhere} hash id(s) in every row with ids: a common system prompt, or a padding block"
        yield Finding("warning", "block-everywhere", line, message)
    rate = hash_hit_rates(paths.within(raw.hashed), raw.prompt_tokens, raw.hashed).all_ids or 0.0
    if rate < MIN_HIT_RATE:
        message = f"{rate:.2%} of hash ids were seen before, under {MIN_HIT_RATE:.0%}: caching will show nothing"
        yield Finding("warning", "little-reuse", line, message)


def _ids_in_every_row(paths: HashPaths, rows: int) -> int:
    (frequent,) = np.nonzero(np.bincount(paths.ids) >= rows)
    requests = paths.requests()
    return sum(len(np.unique(requests[paths.ids == hash_id])) == rows for hash_id in frequent)
