"""Where a run's files go: refused before anything is simulated, written once it is done."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kvsim.cli.usage import FlagError
from kvsim.errors import KvsimError
from kvsim.failures import Failures
from kvsim.report.atomic import ensure_takes_files, ensure_writable, is_stdout

if TYPE_CHECKING:
    from kvsim.export.base import Exporter
    from kvsim.modes.experiment import Experiment
    from kvsim.record.result import SystemResult
    from kvsim.report.report import Report


Kind = Literal["JSON", "CSV", "HTML", "PNG", "model", "profile", "trace", "measured", "samples", "bench"]
"""What a file holds. One that is there may be replaced by its like, and nothing else."""
_BEGINNINGS: Mapping[Kind, bytes] = {
    "JSON": rb"\s*[\[{]\s*?(\n|[\]}]\s*$)",
    "CSV": rb"(model,)?system,request_id,",
    "HTML": rb'<!doctype html>\s*<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="kvsim">',
    "PNG": rb"\x89PNG",
    "model": rb"tree\n",
    "profile": rb"((#.*|---|\s*)\n)*(name|description|sources|provenance|validity|overrides|steptime|hardware):",
    "measured": rb'\{"kvsim_measure":|PAR1',
    "samples": rb'\{"time_s":|PAR1',
    "bench": rb'\{"date": "',
    "trace": rb"\x1f\x8b|\s*\{[^\n]*\}\s*(\n|$)|[^\n]*(time|TIME|Time|stamp)[^\n]*,|[^\n]*,[^\n]*(time|TIME|Time)",
}
"""How each begins, as kvsim writes it; JSON over several lines, as one row a line is a trace."""


def check_file(flag: str, path: Path, taken: Mapping[str, Path], kind: Kind) -> None:
    """Raise a ``KvsimError`` when ``path`` cannot be written, is one of the files ``taken`` for something else, or is
    there and holds no such ``kind`` of thing. ``-`` is stdout, for JSON, CSV and HTML.
    """
    refuse_taken(flag, path, taken)
    if is_stdout(path):
        if kind not in ("JSON", "CSV", "HTML", "bench"):
            raise FlagError(f"{flag} is '-', stdout; a file is wanted")
        return
    ensure_writable(path)
    if path.is_file() and not _is_like(path, kind):
        raise FlagError(f"{flag} is {str(path)!r}, which is there and no {kind} of kvsim's; another name is wanted")


def _is_like(path: Path, kind: Kind) -> bool:
    return _begins(path, _BEGINNINGS[kind])


def _begins(path: Path, beginning: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise FlagError(f"{str(path)!r} is there and cannot be read: {error.strerror}") from error
    return not head or re.match(beginning, head) is not None


def refuse_taken(flag: str, path: Path, taken: Mapping[str, Path]) -> None:
    """Raise ``FlagError`` when ``path`` is one of the files ``taken`` for something else."""
    for what, other in taken.items():
        if _same(path, other) and not _is_device(path):
            raise FlagError(f"{flag} is {str(path)!r}, which is {what}; another file is wanted")


@dataclass(frozen=True)
class Reports:
    """The files that are asked for by a flag each."""

    json: Path | None
    csv: Path | None
    html: Path | None = None

    def given(self) -> list[tuple[str, Path, Kind]]:
        """Flag, path and kind of those that are asked for."""
        flags: tuple[tuple[str, Path | None, Kind], ...] = (
            ("--report-json", self.json, "JSON"),
            ("--report-csv", self.csv, "CSV"),
            ("--report-html", self.html, "HTML"),
        )
        return [(flag, path, kind) for flag, path, kind in flags if path is not None]


@dataclass(frozen=True)
class Outputs:
    """What a run writes: reports on request, and pictures into ``folder`` unless it has none."""

    reports: Reports
    folder: Path
    plots: bool
    exports: tuple[tuple[Exporter, Path], ...] = ()
    """On request, too: formats and the file each is asked for."""
    systems: tuple[str, ...] = ()
    """Names of the systems that are to be run."""

    @property
    def need_detail(self) -> bool:
        """Whether something that is written tells of single steps, which a run has to keep for it."""
        return self.reports.html is not None or any(exporter.needs_detail for exporter, _ in self.exports)

    def check(self, inputs: Mapping[str, Path]) -> None:
        """Raise a ``KvsimError`` when something could not be written or would replace an input. Nothing is created."""
        if self.needs_folder:
            check_folder(self.folder)
        taken = dict(inputs)
        for flag, path, kind in self.reports.given():
            if self._in_folder(path) and not self.folder.exists():
                refuse_taken(flag, path, taken)
            else:
                check_file(flag, path, taken, kind)
            taken[f"also that of {flag}"] = path
        for exporter, target in self.exports:
            flag = f"--export {exporter.name}"
            for path in exporter.paths(target, self.systems):
                refuse_taken(flag, path, taken)
                if is_stdout(path):
                    raise FlagError(f"{flag} is '-', stdout; a file is wanted")
                if not self._in_folder(path) or self.folder.exists():
                    ensure_writable(path)
                    if path.is_file() and not _begins(path, exporter.beginning):
                        what = f"which is there and no {exporter.name} file of kvsim's"
                        raise FlagError(f"{flag} is {str(path)!r}, {what}; another name is wanted")
                taken[f"also that of {flag}"] = path
        if self.reports.html is not None:
            self._check_page()

    def files(self) -> Iterator[tuple[str, Path]]:
        """Flag and path of each file that a flag asks for."""
        for flag, path, _ in self.reports.given():
            yield flag, path
        for exporter, target in self.exports:
            for path in exporter.paths(target, self.systems):
                yield f"--export {exporter.name}", path

    def write(self, report: Report, experiment: Experiment, failures: Failures, notes: list[str]) -> list[Path]:
        """Write everything that can be; returns the paths written. What is to be said of them is added to ``notes``."""
        from kvsim.report.csv_report import write_csv
        from kvsim.report.plots import plot_report

        results = experiment.results
        if self.needs_folder:
            failures.attempt("the folder of results", partial(create_folder, self.folder))
        written = []
        writers: dict[str, Callable[[Path], None]] = {
            "--report-json": report.write_json,
            "--report-csv": lambda path: write_csv(path, results),
            "--report-html": partial(_write_page, report=report, results=results),
        }
        for flag, path, _ in self.reports.given():
            before = len(failures.found)
            failures.attempt(flag, partial(writers[flag], path))
            if len(failures.found) == before:
                written.append(path)
        written += self._exported(report, experiment, failures, notes)
        return written + (plot_report(self.folder, report, results, failures) if self.plots else [])

    def _exported(self, report: Report, experiment: Experiment, failures: Failures, notes: list[str]) -> list[Path]:
        from kvsim.export.base import Finished

        run = Finished(report, experiment.plan, experiment.workload, experiment.results, self.systems)
        written: list[Path] = []
        for exporter, path in self.exports:
            before = len(failures.found)
            said = failures.attempt(f"--export {exporter.name}", partial(exporter.write, path, run))
            if len(failures.found) == before:
                notes += said or []
                written += [found for found in exporter.paths(path, self.systems) if found.exists()]
        return written

    @property
    def needs_folder(self) -> bool:
        """Whether anything is written into the folder."""
        files = [path for _, path, _ in self.reports.given()] + [path for _, path in self.exports]
        return self.plots or any(self._in_folder(path) for path in files)

    def _check_page(self) -> None:
        from kvsim.page.library import ensure_library

        try:
            ensure_library()
        except KvsimError as error:
            raise FlagError(f"--report-html: {error}") from error

    def _in_folder(self, path: Path) -> bool:
        return not is_stdout(path) and _same(path.parent, self.folder)


def check_folder(folder: Path) -> None:
    """Raise a ``KvsimError`` where this is no folder of results and cannot become one. Nothing is created."""
    existing = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not existing.is_dir():
        raise FlagError(f"--out: cannot make {str(folder)!r} a folder of results: {str(existing)!r} is none")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FlagError(f"--out: no permission to create files in {str(existing)!r}")
    try:
        ensure_takes_files(existing)
    except KvsimError as error:
        raise FlagError(f"--out: {error}") from error


def create_folder(folder: Path) -> None:
    """Raise a ``FlagError`` where it is not there and cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlagError(f"--out: cannot create {str(folder)!r}: {error.strerror}") from error


def _write_page(path: Path, report: Report, results: Sequence[SystemResult]) -> None:
    from kvsim.page import write_html

    write_html(path, report, results)


def _same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
