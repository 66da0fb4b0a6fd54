"""A trace that Perfetto and Chrome open: JSON of trace events, packed where the file is named ``.gz``."""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from kvsim.export.base import FileEach, Finished
from kvsim.record.binned import Floats
from kvsim.record.detail import TRANSFER_KINDS, Detail
from kvsim.record.frames import detail_of
from kvsim.record.result import SystemResult
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.record.timeline import edges_s, sums
from kvsim.report.atomic import replacing

MOST_STEPS = 100_000
"""Spans of steps in a file: with as many requests as they usually serve some 90 MB, 12 packed."""
_REQUESTS, _LINKS = 1, 2
_FIRST_INSTANCE = 10
"""Numbers of processes."""

Event = dict[str, object]


class PerfettoTrace(FileEach):
    """Instances are processes with their steps as slices and counters; requests and links are lanes of two more.

    A slice of a request lies from arrival to last token, parts of it inside, and a flow leads from there through the
    steps that computed its prompt to the steps that gave its first and last token.
    """

    name = "perfetto"
    what = "steps, requests and transfers over time, for Perfetto and Chrome"
    suffixes = (".json.gz",)
    beginning = rb'\x1f\x8b|\{"traceEvents":'
    needs_detail = True

    def write_file(self, path: Path, run: Finished, result: SystemResult) -> list[str]:
        detail = detail_of(result)
        with replacing(path) as file:
            if path.suffix != ".gz":
                return write_trace(file, result, detail)
            # Without a name or a time inside: the same run gives the same bytes.
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                return write_trace(packed, result, detail)


def write_trace(
    file: IO[bytes] | gzip.GzipFile, result: SystemResult, detail: Detail, more: Iterable[Event] = ()
) -> list[str]:
    """Write the events of a run, and ``more`` behind them; returns what a reader may not expect, as sentences."""
    starts_s = np.sort(detail.steps["start_s"])
    until_s = float(starts_s[MOST_STEPS]) if len(starts_s) > MOST_STEPS else np.inf
    file.write(b'{"traceEvents":[\n')
    separator = b""
    for event in chain(_events(result, detail, until_s), more):
        file.write(separator + json.dumps(event, separators=(",", ":")).encode())
        separator = b",\n"
    said = []
    if np.isfinite(until_s):
        said = [f"{result.name}: the first {MOST_STEPS:,} of {len(starts_s):,} spans of steps, up to {until_s:.6g} s"]
    other = {"system": result.name, "end_s": result.end_s, "cut": said}
    file.write(b'\n],"displayTimeUnit":"ms","otherData":' + json.dumps(other).encode() + b"}\n")
    return said


def _events(result: SystemResult, detail: Detail, until_s: float) -> Iterator[Event]:
    yield from named(_REQUESTS, f"{result.name}: requests")
    yield from named(_LINKS, f"{result.name}: links")
    for place, facts in enumerate(detail.instances):
        where = f"host {facts.host}, rack {facts.rack}"
        yield from named(_FIRST_INSTANCE + place, f"{result.name}: {facts.role} {facts.number} ({where})")
    yield from _steps(detail, until_s)
    yield from _requests(result, detail, until_s)
    yield from _links(detail, until_s)
    yield from _counters(result, detail, until_s)


def named(process: int, name: str) -> Iterator[Event]:
    yield {"ph": "M", "pid": process, "tid": 0, "name": "process_name", "args": {"name": name}}
    yield {"ph": "M", "pid": process, "tid": 0, "name": "process_sort_index", "args": {"sort_index": process}}


def _ns(time_s: float) -> int:
    return round(time_s * 1e9)


def _us(time_ns: int) -> float:
    return time_ns / 1000


def slice_of(
    process: int, lane: int, name: str, category: str, times_s: tuple[float, float], args: Mapping[str, object]
) -> Event:
    """Times are rounded to nanoseconds before they are subtracted: neighbours meet, and parts stay inside."""
    start, end = map(_ns, times_s)
    return {
        "ph": "X",
        "pid": process,
        "tid": lane,
        "name": name,
        "cat": category,
        "ts": _us(start),
        "dur": _us(max(end - start, 0)),
        "args": args,
    }


def _steps(detail: Detail, until_s: float) -> Iterator[Event]:
    names = [name for name in detail.steps if name not in ("instance", "start_s", "end_s")]
    columns = {name: column.tolist() for name, column in detail.steps.items()}
    for row, start_s in enumerate(columns["start_s"]):
        if start_s >= until_s:
            continue
        args = {name: columns[name][row] if name.endswith("_s") else int(columns[name][row]) for name in names}
        what = [f"{args['prefill_tokens']} tokens of prompts"] * bool(args["prefill_tokens"])
        what += [f"{args['decode_seqs']} decode"] * bool(args["decode_seqs"])
        name = " + ".join(what) + (f" x {args['num_steps']} steps" if args["num_steps"] > 1 else "")
        process = _FIRST_INSTANCE + int(columns["instance"][row])
        yield slice_of(process, 1, name, "step", (start_s, columns["end_s"][row]), args)


def lanes(start_s: Floats, end_s: Floats) -> list[int]:
    """A lane for each interval, from 1 on, so that those of one lane do not overlap; as few lanes as there can be."""
    found = [0] * len(start_s)
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    used = 0
    for row in np.lexsort((end_s, start_s)).tolist():
        while busy and busy[0][0] <= start_s[row]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            used += 1
            lane = used
        found[row] = lane
        heapq.heappush(busy, (float(end_s[row]), lane))
    return found


def _requests(result: SystemResult, detail: Detail, until_s: float) -> Iterator[Event]:
    rows = np.flatnonzero(result.table["arrival_s"] < until_s)
    rows = rows[np.argsort(result.table["arrival_s"][rows], kind="stable")]
    table = {name: column[rows] for name, column in result.table.items()}
    derived = {"ttft_s": ttft_s(table), "tpot_s": tpot_s(table), "e2e_s": e2e_s(table)}
    measured, chunks = result.measured[rows], _chunk_steps(detail)
    own_lanes = lanes(table["arrival_s"], table["finish_s"])
    ends = _StepEnds(detail)
    for row, lane in enumerate(own_lanes):
        number = int(table["request_id"][row])
        args: dict[str, object] = {name: _plain(name, column[row]) for name, column in table.items()}
        args |= {name: float(column[row]) for name, column in derived.items() if np.isfinite(column[row])}
        args["measured"] = int(measured[row])
        arrival_s, first_s, finish_s = (float(table[name][row]) for name in ("arrival_s", "first_token_s", "finish_s"))
        yield slice_of(_REQUESTS, lane, f"request {number}", "request", (arrival_s, finish_s), args)
        yield slice_of(_REQUESTS, lane, "to first token", "part", (arrival_s, first_s), {})
        yield slice_of(_REQUESTS, lane, "later tokens", "part", (first_s, finish_s), {})
        steps = [
            *chunks.get(number, [])[:8],
            ends.at(detail, table, row, first_s),
            ends.at(detail, table, row, finish_s),
        ]
        visited = list(dict.fromkeys(step for step in steps if step >= 0 and detail.steps["start_s"][step] < until_s))
        yield from _flow(number, lane, arrival_s, detail, visited)


def _plain(name: str, value: float) -> float | int:
    return float(value) if name.endswith(("_s", "_bytes")) else int(value)


def _chunk_steps(detail: Detail) -> dict[int, list[int]]:
    """By request: the steps that computed parts of its prompt."""
    found: dict[int, list[int]] = {}
    for request_id, step in zip(detail.chunks["request_id"].tolist(), detail.chunks["step"].tolist(), strict=True):
        found.setdefault(int(request_id), []).append(int(step))
    return found


class _StepEnds:
    """Finds the span in which, or at the end of which, an instance gave a token."""

    def __init__(self, detail: Detail) -> None:
        instance = detail.steps["instance"]
        self._rows = [np.flatnonzero(instance == place) for place in range(len(detail.instances))]
        self._places = {(facts.role, facts.number): place for place, facts in enumerate(detail.instances)}
        self._has_decode = any(role == "decode" for role, _ in self._places)

    def at(self, detail: Detail, table: dict[str, Floats], row: int, time_s: float) -> int:
        """A row of the steps, -1 where no step of the instance that decodes was under way."""
        role = "decode" if self._has_decode else "colocated"
        rows = self._rows[self._places[role, int(table["decode_instance"][row])]]
        place = int(np.searchsorted(detail.steps["end_s"][rows], time_s, side="left"))
        if place == len(rows) or detail.steps["start_s"][rows[place]] > time_s:
            return -1
        return int(rows[place])


def _flow(number: int, lane: int, arrival_s: float, detail: Detail, steps: list[int]) -> Iterator[Event]:
    if not steps:
        return
    base: Event = {"name": "request", "cat": "flow", "id": number}
    yield base | {"ph": "s", "pid": _REQUESTS, "tid": lane, "ts": _us(_ns(arrival_s))}
    for step in steps:
        process = _FIRST_INSTANCE + int(detail.steps["instance"][step])
        start, end = (_ns(float(detail.steps[name][step])) for name in ("start_s", "end_s"))
        is_last = step == steps[-1]
        event = base | {"ph": "f" if is_last else "t", "pid": process, "tid": 1, "ts": _us((start + end) // 2)}
        yield event | ({"bp": "e"} if is_last else {})


def _links(detail: Detail, until_s: float) -> Iterator[Event]:
    moved, names = detail.transfers, [f"{facts.role} {facts.number}" for facts in detail.instances]
    own = lanes(moved["start_s"], moved["end_s"])
    for row, lane in enumerate(own):
        if moved["start_s"][row] < until_s:
            ends = f"{names[int(moved['source'][row])]} -> {names[int(moved['target'][row])]}"
            args = {
                "request_id": int(moved["request_id"][row]),
                "bytes": float(moved["bytes"][row]),
                "kind": TRANSFER_KINDS[int(moved["kind"][row])],
            }
            times_s = float(moved["start_s"][row]), float(moved["end_s"][row])
            yield slice_of(_LINKS, lane, ends, "transfer", times_s, args)
    loads, first = detail.loads, max(own, default=0)
    for row, lane in enumerate(lanes(loads["start_s"], loads["end_s"])):
        if loads["start_s"][row] < until_s:
            name = f"{detail.tiers[int(loads['tier'][row])]} -> {names[int(loads['instance'][row])]}"
            args = {
                "request_id": int(loads["request_id"][row]),
                "bytes": float(loads["bytes"][row]),
                "tokens": int(loads["tokens"][row]),
            }
            times_s = float(loads["start_s"][row]), float(loads["end_s"][row])
            yield slice_of(_LINKS, first + lane, name, "load", times_s, args)


def _counters(result: SystemResult, detail: Detail, until_s: float) -> Iterator[Event]:
    """Means over the bins of the timeline."""
    edges, found = edges_s(detail, result.end_s), sums(detail)
    width_s = np.diff(edges)
    for place, facts in enumerate(detail.instances):
        for name, column, whole in (
            ("running", "running_s", 1.0),
            ("waiting", "waiting_s", 1.0),
            ("KV usage", "held_block_s", float(facts.kv_blocks)),
        ):
            for row in np.flatnonzero((width_s > 0) & (edges[:-1] < until_s)).tolist():
                value = float(found[column][place, row]) / (width_s[row] * whole)
                at = _us(_ns(float(edges[row])))
                process = _FIRST_INSTANCE + place
                yield {"ph": "C", "pid": process, "name": name, "ts": at, "args": {"value": round(float(value), 6)}}
