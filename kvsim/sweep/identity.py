"""Which kvsim makes the rows: those of two versions do not stand in one table."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from kvsim._version import __version__
from kvsim.content import content_path

_PACKAGE = Path(__file__).resolve().parents[1]
_CONTENT = ("config.yaml", "models.json", "profiles", "policies", "learned")
"""What kvsim ships beside its sources and a run may read."""


@cache
def identity() -> str:
    """Versions of kvsim and NumPy, and a hash of all sources and shipped files: equal ones make equal rows."""
    found = hashlib.sha256()
    shipped = [content_path(name) for name in _CONTENT]
    for root in (_PACKAGE, *shipped):
        for path in _files(root):
            found.update(f"{root.name}/{path.relative_to(root).as_posix()}\n".encode())
            found.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return f"kvsim {__version__} ({found.hexdigest()[:12]}) on NumPy {np.__version__}"


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if root != _PACKAGE:
        return sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".md")
    packaged = _PACKAGE / "_content"
    return sorted(path for path in root.rglob("*.py") if packaged not in path.parents)
