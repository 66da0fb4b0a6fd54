"""Processes that start clean: workers of this machine which have imported what they run, and nothing else.

They are forked from a server that did the imports once, see none of a terminal's Ctrl-C, and end with their parent,
even where that is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import site
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from types import ModuleType
from typing import Any

from kvsim import _compiled

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(str(_compiled.__file__))))
"""Where this kvsim is imported from."""


def clean_context(module: str) -> Any:
    """The ``multiprocessing`` context of such workers; ``module`` is imported once for all of them, where that goes.

    Of several contexts in one process, the first that starts a worker decides what is imported once.
    """
    context: Any = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    if os.name != "nt":
        context.set_forkserver_preload([module])
    return context


@contextmanager
def clean_start() -> Iterator[None]:
    """Processes that start inside have this kvsim, not another that is installed beside a checkout, and do not run the
    script again that has started this one.
    """
    main, path = sys.modules["__main__"], os.environ.get("PYTHONPATH")
    sys.modules["__main__"] = ModuleType("__main__")
    installed = [*site.getsitepackages(), site.getusersitepackages()]
    if _ROOT not in installed:
        os.environ["PYTHONPATH"] = _ROOT if not path else f"{_ROOT}{os.pathsep}{path}"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if path is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = path


def begin_worker() -> None:
    """What a worker does first: a terminal's Ctrl-C is its parent's business, and it does not outlive that one."""
    if os.name != "nt":
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def end_server() -> None:
    """End the process that workers were forked from, and wait for it: what they took of CPU is this process's then, as
    that of other children is. Without a name for that in this version of Python it ends with this process.
    """
    stop = getattr(forkserver._forkserver, "_stop", None)
    if stop is not None:
        stop()
