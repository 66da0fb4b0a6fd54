"""The inner loop may be compiled (see ``hatch_build.py``). The sources decide: extensions of others are not loaded.

Known to the build as well, which loads this file alone: nothing here imports kvsim.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

COMPILED = (
    "capacity/saturated.py",
    "sim/**/*.py",
    "steptime/curves/*.py",
    "plan/engine_settings.py",
    "policy/eviction/access.py",
    "workload/request.py",
)
"""Globs of the compiled modules inside the package; files of packages themselves (``__init__.py``) stay sources."""
DIGEST = "_compiled.sha256"
"""The file of :func:`digest` beside this one, as it was when the extensions were built."""


def compiled_sources(package: Path) -> list[Path]:
    """The compiled modules of ``package``, in the order of their paths."""
    found = {path for pattern in COMPILED for path in package.glob(pattern)}
    return sorted(path for path in found if path.name != "__init__.py")


def digest(package: Path) -> str:
    """Sha256, as hex, of the names and the text of all compiled sources."""
    text = hashlib.sha256()
    for path in compiled_sources(package):
        text.update(f"{path.relative_to(package).as_posix()}\n".encode())
        text.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return text.hexdigest()


def is_fresh(package: Path) -> bool:
    """Whether this interpreter's extension modules stand beside all of the sources, built from these very ones.

    All or none: compiled modules share their classes' layout.
    """
    suffix = EXTENSION_SUFFIXES[0]
    if not all(path.with_suffix(suffix).exists() for path in compiled_sources(package)):
        return False
    written = package / DIGEST
    return written.exists() and written.read_text("ascii").strip() == digest(package)


def prefer_fresh() -> None:
    """Import the sources where ``KVSIM_PURE`` is set, or where they are not those of the extension modules."""
    package = Path(__file__).resolve().parent
    extensions = list(package.glob(f"**/*{EXTENSION_SUFFIXES[0]}"))
    if extensions and (os.environ.get("KVSIM_PURE") or not is_fresh(package)):
        for folder in {path.parent for path in extensions}:
            sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (SourceFileLoader, SOURCE_SUFFIXES))


def engine() -> str:
    """``compiled`` or ``pure``: the form in which the simulation itself runs."""
    import kvsim.sim.engine.engine

    return "pure" if str(kvsim.sim.engine.engine.__file__).endswith(".py") else "compiled"
