"""What comes back from a rented machine, written down here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.errors import ConfigError

if TYPE_CHECKING:
    from kvsim.measure.result import MeasuredRun

SUMMARY = "run.json"


def check_folder(folder: Path) -> None:
    """Raise ``ConfigError`` where a run's files cannot go to ``folder``, before it is paid for."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is no folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"--out {folder}: has files already; allowed: a new or an empty folder")
    above = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not above.is_dir():
        raise ConfigError(f"--out {folder}: {above} is no folder")
    if not os.access(above, os.W_OK):
        raise ConfigError(f"--out {folder}: {above} cannot be written to")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Raises ``ConfigError`` for a path that leads out of ``folder``."""
    for name, content in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(f"a file that came back is named {name!r}: not written")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def left_in(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its path from there."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def read_back(folder: Path) -> dict[str, Any]:
    """What the run says of itself."""
    found: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return found


def summary_of(run: MeasuredRun) -> dict[str, Any]:
    """A load in a few figures; ``None`` where nothing was measured."""

    def mean_ms(name: str) -> float | None:
        values = [value for row in run.answered if (value := getattr(row, name)) is not None]
        mean = float(np.mean(values)) if values else math.nan
        return mean * 1e3 if math.isfinite(mean) else None

    return {
        "asked": run.asked,
        "answered": len(run.answered),
        "failed": sum(run.failures.values()),
        "duration_s": run.duration_s,
        "incomplete": run.incomplete,
        "saturated": run.is_saturated,
        **{f"{name}_mean_ms": mean_ms(f"{name}_s") for name in ("ttft", "tpot", "e2e")},
    }
