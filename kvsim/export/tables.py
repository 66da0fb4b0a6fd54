"""Tables: CSV of the requests, and Parquet of everything that a run keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kvsim.export.base import Exporter, FileForAll, Finished, with_part
from kvsim.record.result import SystemResult
from kvsim.report.atomic import replacing
from kvsim.report.csv_report import write_rows

if TYPE_CHECKING:
    import polars as pl


class Csv(FileForAll):
    """The requests as ``--report-csv`` writes them, with a column ``system``."""

    name = "csv"
    what = "one row per request"
    suffixes = (".csv",)
    beginning = rb"system,request_id,"

    def write_all(self, file: IO[bytes], run: Finished) -> list[str]:
        write_rows(file, run.results)
        return []


class Parquet(Exporter):
    """The frames of ``kvsim.record.frames``, a file each: the requests in the file that is named, the others beside it,
    as ``a.steps.parquet`` beside ``a.parquet``; all with a column ``system``.
    """

    name = "parquet"
    what = "requests, steps, timeline, instances, transfers and loads, a file each"
    suffixes = (".parquet",)
    beginning = b"PAR1"
    needs_detail = True

    def paths(self, path: Path, systems: Sequence[str]) -> list[Path]:
        return [path, *(with_part(path, name) for name in _beside())]

    def write(self, path: Path, run: Finished) -> list[str]:
        from kvsim.record.frames import requests_frame

        _write(path, requests_frame, run.results)
        for name, frame in _beside().items():
            _write(with_part(path, name), frame, run.results)
        return []


def _beside() -> dict[str, Callable[[SystemResult], pl.DataFrame]]:
    from kvsim.record import frames

    return {
        "steps": frames.steps_frame,
        "timeline": frames.timeline_frame,
        "instances": frames.instances_frame,
        "transfers": frames.transfers_frame,
        "loads": frames.loads_frame,
    }


def _write(path: Path, frame: Callable[[SystemResult], pl.DataFrame], results: Sequence[SystemResult]) -> None:
    import polars as pl

    own = [frame(result).select(pl.lit(result.name).alias("system"), pl.all()) for result in results]
    # Systems without tiers lack those columns.
    whole = pl.concat(own, how="diagonal")
    with replacing(path) as file:
        # Not by Polars itself: it writes past Python's file, and says what fails as exceptions of its own.
        packed = BytesIO()
        whole.write_parquet(packed)
        file.write(packed.getbuffer())
