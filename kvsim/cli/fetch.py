"""``trace list`` and ``trace fetch``: public traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kvsim.cli.validate_text import wrapped


def list_traces() -> int:
    """Show the public traces that fetch knows."""
    from kvsim.workload.catalogue import catalogue

    for trace in catalogue().values():
        rows = f", {trace.rows:,} rows" if trace.rows else ""
        sys.stdout.write(wrapped(f"{trace.name}: {trace.what} ({trace.format}{rows}, {trace.licence})"))
        sys.stdout.write(f"    {trace.source}\n")
    return 0


def fetch_trace(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `trace list` shows.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="PATH", help="File or folder; default: here.")
    ] = None,
) -> int:
    """Download a public trace and check its sha256."""
    from kvsim.workload.catalogue import fetch, find_trace

    trace = find_trace(name)
    target = (out or Path()) / trace.file_name if out is None or out.is_dir() else out
    found = fetch(trace, target)
    if trace.sha256 is None:
        sys.stderr.write(f"kvsim: note: the catalogue has no sha256 for {name}: nothing was verified; got {found}\n")
    sys.stdout.write(f"{target}: {trace.what}; {trace.licence}, {trace.source}\n")
    if trace.quirks:
        sys.stdout.write(wrapped(f"note: {trace.quirks}"))
    return 0
