"""What all formats share: what they are made of, and which files they write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.report.atomic import replacing
from kvsim.report.report import Report
from kvsim.workload.workload import Workload


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    report: Report
    plan: Plan
    """The first system's."""
    workload: Workload
    """What all systems served."""
    results: tuple[SystemResult, ...]
    """One of each system that was run."""
    systems: tuple[str, ...]
    """Names of those that were to be run, by which files are named."""


class Exporter:
    """One format."""

    name: ClassVar[str]
    """What it is called on the command line."""
    what: ClassVar[str]
    """What its files hold, in a few words."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Ends of names of files that can be nothing else."""
    beginning: ClassVar[bytes]
    """A regular expression that matches how each file begins: one that is there and does not is not replaced."""
    needs_detail: ClassVar[bool] = False
    """Whether the run is to keep its detail."""

    def paths(self, path: Path, systems: Sequence[str]) -> list[Path]:
        """The files that are written for ``path`` where those ``systems`` are run."""
        raise NotImplementedError

    def write(self, path: Path, run: Finished) -> list[str]:
        """Write the files, each whole or not at all; returns what a reader of them may not expect, as sentences.

        Raises a ``KvsimError`` for a path that cannot be written.
        """
        raise NotImplementedError


class FileForAll(Exporter):
    """A format that has all systems in one file."""

    def paths(self, path: Path, systems: Sequence[str]) -> list[Path]:
        return [path]

    def write(self, path: Path, run: Finished) -> list[str]:
        with replacing(path) as file:
            return self.write_all(file, run)

    def write_all(self, file: IO[bytes], run: Finished) -> list[str]:
        """Write the file, and return what is to be said of it."""
        raise NotImplementedError


class FileEach(Exporter):
    """A format with a file a system: of several, each is named after its system, before the suffix."""

    def paths(self, path: Path, systems: Sequence[str]) -> list[Path]:
        return [self._path_of(path, system, systems) for system in systems]

    def write(self, path: Path, run: Finished) -> list[str]:
        said = []
        for result in run.results:
            said += self.write_file(self._path_of(path, result.name, run.systems), run, result)
        return said

    def write_file(self, path: Path, run: Finished, result: SystemResult) -> list[str]:
        """Write one system's file, whole or not at all."""
        with replacing(path) as file:
            return self.write_one(file, run, result)

    def write_one(self, file: IO[bytes], run: Finished, result: SystemResult) -> list[str]:
        """Write one system's file, and return what is to be said of it."""
        raise NotImplementedError

    def _path_of(self, path: Path, system: str, systems: Sequence[str]) -> Path:
        return path if len(systems) == 1 else with_part(path, system)


def with_part(path: Path, part: str) -> Path:
    """``path`` with ``part`` before its suffix, which ``.gz`` belongs to: ``a.json.gz`` gives ``a.part.json.gz``."""
    end = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    plain = re.sub(r"[^\w.+-]+", "_", part)
    return path.with_name(f"{path.name.removesuffix(end)}.{plain}{end}")
