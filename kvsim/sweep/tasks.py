"""A run as it travels to a worker, and what comes back. Light to import: whoever drives a sweep simulates nothing."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvsim.errors import KvsimError
from kvsim.sweep.arguments import ARGUMENTS
from kvsim.sweep.files import ensure_content
from kvsim.sweep.identity import identity
from kvsim.sweep.plan import Run
from kvsim.sweep.sweep import Sweep

_ONE_AT_A_TIME = threading.Lock()
"""A simulation has its process for itself: Dask's workers may have several threads."""


@dataclass(frozen=True)
class Task:
    """A run as it travels to a worker."""

    run: Run
    arguments: Mapping[str, Any]
    """What all runs have, and what this one has."""
    sets: Mapping[str, Any]
    """Keys of the configuration, of all runs and of this one."""
    files: Mapping[str, str]
    """Sha256 of each file among the arguments."""
    folder: Path
    identity: str
    """The kvsim that the sweep was started with."""


@dataclass(frozen=True)
class Done:
    """What came of it."""

    run: Run
    line: str
    """The row, as JSON on one line; empty where there is none."""
    has_error: bool
    cpu_s: float
    worker: str
    refused: str = ""
    """Why this worker may make no row of this sweep; the run has not been begun then."""


def head_of(run: Run) -> dict[str, Any]:
    """How the row of a run begins."""
    head = {"run": run.number, "id": run.id, "point": run.point, "replication": run.replication, "seed": run.seed}
    return head | dict(run.values)


def line_of(row: Mapping[str, Any]) -> str:
    """A row as it stands in the table."""
    return json.dumps(row, separators=(",", ":"))


def task_of(sweep: Sweep, run: Run) -> Task:
    """The run with all that a worker needs, but for the contents of files."""
    given = {**sweep.fixed, **{key: value for key, value in run.values.items() if key in ARGUMENTS}}
    sets = {**sweep.sets, **{key: value for key, value in run.values.items() if key not in ARGUMENTS}}
    named = {value: sweep.files[value] for value in given.values() if isinstance(value, str) and value in sweep.files}
    return Task(run, given, sets | {"seed": run.seed}, named, sweep.folder, identity())


def perform(task: Task) -> Done:
    """The row of a run, one with its error where it fails; raises nothing but an interrupt."""
    with _ONE_AT_A_TIME:
        worker, began_s = f"{platform.node()}:{os.getpid()}", time.process_time()
        why = _unlike(task)
        if why:
            return Done(task.run, "", True, 0.0, worker, f"{platform.node()}: {why}")
        from kvsim.sweep.work import row_of

        row = row_of(task)
        return Done(task.run, line_of(row), row["error"] is not None, time.process_time() - began_s, worker)


def _unlike(task: Task) -> str:
    """In what this worker differs from where the sweep was started; empty: in nothing that matters."""
    if identity() != task.identity:
        return f"the worker has {identity()}, the sweep was started with {task.identity}; rows of two are no table"
    try:
        for name, wanted in task.files.items():
            path = task.folder / name
            if path.is_file():
                ensure_content(path, wanted)
            elif not path.is_dir():
                return f"{path}: no such file; a worker reads it from the same place"
    except KvsimError as error:
        return str(error)
    return ""
