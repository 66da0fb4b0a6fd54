"""What a worker does with a run. Light to import: whoever drives a sweep simulates nothing."""

from __future__ import annotations

import os
import platform
import threading
import time

from kvsim.errors import KvsimError
from kvsim.sweep.files import ensure_content
from kvsim.sweep.identity import identity
from kvsim.sweep.tasks import Done, Task, line_of

_ONE_AT_A_TIME = threading.Lock()
"""A simulation has its process for itself: Dask's workers may have several threads."""


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
