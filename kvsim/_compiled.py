"""The inner loop may be compiled (see ``hatch_build.py``). The sources decide: stale extensions are not loaded."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def prefer_fresh() -> None:
    """Import the sources where ``KVSIM_PURE`` is set, or where one of them is newer than its extension module.

    All or none: compiled modules share their classes' layout.
    """
    extensions = _extensions()
    if extensions and (os.environ.get("KVSIM_PURE") or any(_is_stale(path) for path in extensions)):
        for folder in {path.parent for path in extensions}:
            sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (SourceFileLoader, SOURCE_SUFFIXES))


def is_compiled() -> bool:
    """Whether the engine's modules in use are compiled."""
    import kvsim.node.engine

    return not str(kvsim.node.engine.__file__).endswith(".py")


def _extensions() -> list[Path]:
    suffix = EXTENSION_SUFFIXES[0]
    return list(_PACKAGE.glob(f"**/*{suffix}"))


def _is_stale(extension: Path) -> bool:
    source = extension.with_name(extension.name.removesuffix(EXTENSION_SUFFIXES[0]) + ".py")
    return not source.exists() or source.stat().st_mtime > extension.stat().st_mtime
