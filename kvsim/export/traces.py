"""Traces of what was served: the requests that count, at the times at which they came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from kvsim.export.base import FileEach, Finished
from kvsim.record.result import SystemResult
from kvsim.workload.workload import Workload
from kvsim.workload.writers import write_trace


class TraceExporter(FileEach):
    """A trace of each system's measured requests, the first of them at time 0: without the warm-up, without what fitted
    nowhere, with the answers as long as they were. In a closed loop requests come when they did in this very run.
    """

    beginning = rb"\x1f\x8b|\s*\{[^\n]*\}\s*(\n|$)"
    schema: ClassVar[str]

    def write_file(self, path: Path, run: Finished, result: SystemResult) -> list[str]:
        said = write_trace(served(run.workload, result), path, self.schema)
        return [f"{result.name}: {sentence}" for sentence in said]


class AiperfTrace(TraceExporter):
    """Rows of AIPerf's ``mooncake_trace`` input, with sessions."""

    name = schema = "aiperf"
    what = "what was served, as a trace for AIPerf"


class MooncakeTrace(TraceExporter):
    """Rows of the schema of the traces published with Mooncake."""

    name = schema = "mooncake"
    what = "what was served, as a Mooncake trace"


def served(workload: Workload, result: SystemResult) -> Workload:
    """The measured requests of a result as a workload of an open loop, in the order in which they came."""
    table = {name: result.table[name][result.measured] for name in ("request_id", "arrival_s", "output_tokens")}
    order = np.lexsort((table["request_id"], table["arrival_s"]))
    rows, arrival_s = table["request_id"][order].astype(np.int64), table["arrival_s"][order]
    begin, end = workload.piece_offsets[rows], workload.piece_offsets[rows + 1]
    counts = end - begin
    offsets = np.concatenate(([0], np.cumsum(counts)))
    pieces = np.repeat(begin - offsets[:-1], counts) + np.arange(offsets[-1])
    return replace(
        workload,
        arrival_s=arrival_s - (arrival_s[0] if len(arrival_s) else 0.0),
        prompt_tokens=workload.prompt_tokens[rows],
        output_tokens=table["output_tokens"][order].astype(np.int32),
        session_id=workload.session_id[rows],
        output_chain=workload.output_chain[rows],
        piece_offsets=offsets,
        piece_chain=workload.piece_chain[pieces],
        piece_tokens=workload.piece_tokens[pieces],
        priority=None if workload.priority is None else workload.priority[rows],
        adapter=None if workload.adapter is None else workload.adapter[rows],
        graph=None,
        max_concurrency=None,
    )
