"""A file's rows, read as a user wants them read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kvsim.workload.dequantise import spread
from kvsim.workload.formats import FORMATS, format_named
from kvsim.workload.rawtrace import RawTrace, collect
from kvsim.workload.reading import Reading
from kvsim.workload.tracefile import TraceFile


def read_raw(
    path: str | Path, reading: Reading, *, keeps_failed: bool = False, tolerant: bool = False
) -> tuple[TraceFile, RawTrace]:
    """The rows of a file as they stand, not yet dequantised or scaled; ``tolerant`` as for ``collect``.

    ``keeps_failed``: rows without tokens count towards the limit. Raises ``WorkloadError`` for what cannot be read.
    """
    file = TraceFile(path)
    name = format_named(reading.fmt, file)
    raw = collect(
        file,
        name,
        FORMATS[name](reading.hash_tokens_per_block),
        limit=reading.limit,
        time_unit=reading.time_unit,
        include_failed=keeps_failed or reading.include_failed,
        tolerant=tolerant,
    )
    return file, raw


def timed(raw: RawTrace, reading: Reading) -> RawTrace:
    """``raw`` at the times that ``reading`` makes of the file's."""
    time_s = raw.time_s
    if reading.dequantise and len(time_s):
        order = np.argsort(time_s, kind="stable")
        found = spread(time_s[order])
        if found is not None:
            time_s = np.empty_like(time_s)
            time_s[order] = found[0]
    if reading.arrival_scale != 1:
        time_s = time_s * reading.arrival_scale
    return raw if time_s is raw.time_s else replace(raw, time_s=time_s)
