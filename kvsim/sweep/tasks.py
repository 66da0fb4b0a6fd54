"""A run as it travels to a worker, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvsim.sweep.arguments import ARGUMENTS
from kvsim.sweep.identity import identity
from kvsim.sweep.plan import Run
from kvsim.sweep.sweep import Sweep


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
