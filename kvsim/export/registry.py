"""The formats, by name; and what ``KIND=FILE`` means."""

from __future__ import annotations

from pathlib import Path

from kvsim.errors import KvsimError, nearest
from kvsim.export.base import Exporter
from kvsim.export.llmd import LlmdReport
from kvsim.export.perfetto import PerfettoTrace
from kvsim.export.prometheus import PrometheusText
from kvsim.export.tables import Csv, Parquet
from kvsim.export.traces import AiperfTrace, MooncakeTrace
from kvsim.export.vllm_bench import VllmBench

EXPORTERS: dict[str, Exporter] = {
    exporter.name: exporter
    for exporter in (
        Csv(),
        Parquet(),
        PerfettoTrace(),
        PrometheusText(),
        VllmBench(),
        LlmdReport(),
        AiperfTrace(),
        MooncakeTrace(),
    )
}


def target_of(text: str) -> tuple[Exporter, Path]:
    """What ``KIND=FILE`` asks for, or a FILE alone whose suffix can be of one kind only.

    Raises a ``KvsimError``, one line, for another kind, an empty file name, and a suffix that says too little.
    """
    kind, equals, file = text.partition("=")
    if not equals:
        return _by_suffix(Path(text)), Path(text)
    if kind not in EXPORTERS:
        raise KvsimError(f"'{kind}' is no kind of file to export; {nearest(kind, EXPORTERS)}")
    if not file:
        raise KvsimError(f"'{text}' names no file; KIND=FILE is wanted")
    return EXPORTERS[kind], Path(file)


def _by_suffix(path: Path) -> Exporter:
    for exporter in EXPORTERS.values():
        if path.name.endswith(exporter.suffixes):
            return exporter
    kinds = ", ".join(EXPORTERS)
    raise KvsimError(f"'{path}' does not say what it is to hold; KIND=FILE is wanted, KIND one of {kinds}")
