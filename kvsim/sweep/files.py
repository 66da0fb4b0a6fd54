"""Files that runs read, known by their content: a worker has the very same, or does not run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Workload

_BLOCK_BYTES = 1 << 20
_TRACES = 4
"""Traces that a worker keeps as read."""


def content_hash(path: Path) -> str:
    """Sha256 of a file, or of the names and contents in a folder. Raises a ``KvsimError`` where it cannot be read."""
    try:
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file())
            listed = "".join(f"{each.relative_to(path).as_posix()} {_hash(each)}\n" for each in inside)
            return hashlib.sha256(listed.encode()).hexdigest()
        return _hash(path)
    except OSError as error:
        raise KvsimError(f"{named(path)}: {(error.strerror or str(error)).lower()}") from None


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()


def ensure_content(path: Path, wanted: str) -> None:
    """Raise a ``KvsimError`` unless the file has this hash; one that is not changed is read once by a process."""
    try:
        seen = path.stat()
    except OSError as error:
        raise KvsimError(f"{named(path)}: {(error.strerror or str(error)).lower()}") from None
    if _known_hash(path, seen.st_mtime_ns, seen.st_size) != wanted:
        raise KvsimError(f"{named(path)}: is another file here than where the sweep was started")


@cache
def _known_hash(path: Path, _modified_ns: int, _bytes: int) -> str:
    return content_hash(path)


@dataclass(frozen=True)
class KeptTrace(TraceSource):
    """A trace that a process reads once for all its runs."""

    sha256: str = ""

    def read(self, answer_s_per_token: float | None = None) -> Workload:
        """As :meth:`TraceSource.read`."""
        return _kept(self.path, self.sha256, self.reading, answer_s_per_token)


@lru_cache(_TRACES)
def _kept(path: str | Path, _sha256: str, reading: Reading, answer_s_per_token: float | None) -> Workload:
    return TraceSource(path, reading).read(answer_s_per_token)
