"""Public traces: what is known about each, and getting one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from kvsim.content import content_path
from kvsim.errors import WorkloadError, nearest


@dataclass(frozen=True)
class PublicTrace:
    """One entry of ``trace/catalogue.yaml``."""

    name: str
    what: str
    url: str
    source: str
    licence: str
    sha256: str | None
    checked: bool
    """Whether the hash is our own."""
    rows: int | None
    format: str
    quirks: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def catalogue(path: Path | None = None) -> dict[str, PublicTrace]:
    """All of them by name."""
    text = (path or content_path("trace", "catalogue.yaml")).read_text(encoding="utf-8")
    return {name: PublicTrace(name, **facts) for name, facts in yaml.safe_load(text).items()}


def find_trace(name: str) -> PublicTrace:
    """The entry of that name. Raises ``WorkloadError`` naming the nearest."""
    known = catalogue()
    if name not in known:
        raise WorkloadError(f"trace fetch: unknown trace '{name}'; {nearest(name, known)}")
    return known[name]


def fetch(trace: PublicTrace, target: Path) -> str:
    """Download a trace to ``target``, whole or not at all; returns the file's sha256.

    Raises ``WorkloadError`` for a target that exists with other content, for what cannot be reached, and for a file
    whose hash is not the catalogue's.
    """
    if target.exists():
        found = _sha256(target)
        if found == trace.sha256:
            return found
        raise WorkloadError(f"{target} exists, with sha256 {found}; it is left as it is")
    if not target.parent.is_dir():
        raise WorkloadError(f"{target}: the folder {target.parent} does not exist")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        got = _downloaded(trace, Path(folder))
        found = _sha256(got)
        os.replace(got, target)
    return found


def _downloaded(trace: PublicTrace, folder: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel("ERROR")
    known_hash = None if trace.sha256 is None else f"sha256:{trace.sha256}"
    downloader = pooch.HTTPDownloader(progressbar=False, timeout=60)
    try:
        return Path(pooch.retrieve(trace.url, known_hash, trace.file_name, folder, downloader=downloader))
    except ValueError as wrong:
        words = " ".join(str(wrong).split())
        raise WorkloadError(f"trace fetch: {trace.name}: not the file of the catalogue: {words}") from None
    except OSError as fault:
        # What the downloader's library raises for anything the network does is an OSError.
        words = " ".join(str(fault).split())
        raise WorkloadError(f"trace fetch: {trace.name}: cannot get {trace.url}: {words[:200]}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
