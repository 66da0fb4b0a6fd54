"""What an answer with a table, CSV, JSON and a picture leaves in a folder: checked before, written and told after."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Protocol

import typer

from kvsim.cli import options
from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.cli.usage import FlagError
from kvsim.failures import Failures

RESULTS = Path("results")
NoPlot = Annotated[bool, typer.Option("--no-plot", help="Write no picture.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="The conclusion alone, in a line.")]
Jobs = Annotated[
    int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
]


class Finding(Protocol):
    """An answer that writes its own files."""

    def write(self, folder: Path, failures: Failures, *, plots: bool = True) -> list[Path]:
        """Write what there is into the existing ``folder``; what fails costs itself. Returns what was written."""


def check_files(folder: Path, name: str, whose: str, *, plots: bool, traces: Iterable[str] = ()) -> None:
    """Raise a ``KvsimError`` where a file that would be written is there and no ``whose``. ``traces``: how the names of
    further ones end."""
    from kvsim.cli.outputs import check_file

    if not folder.exists():
        return
    table, told = folder / f"{name}.csv", folder / f"{name}.json"
    check_file("--out", told, {}, "JSON")
    if table.is_file() and not told.is_file():
        raise FlagError(f"--out has {str(table)!r}, which is no {whose}'s: {told.name} is not beside it")
    if plots:
        check_file("--out", folder / f"{name}.png", {}, "PNG")
    for end in traces:
        check_file("--out", folder / f"{name}{end}", {}, "trace")


def say(lines: Iterable[str]) -> None:
    """Print each on lines of its own, as wide as the terminal."""
    width = get_terminal_size().columns
    for line in lines:
        print(fill(line, width, break_on_hyphens=False, break_long_words=False))


def write_files(found: Finding, folder: Path, *, plots: bool, quiet: bool) -> int:
    """Write and say what was written, and what could not be; returns the exit code."""
    from kvsim.cli.outputs import create_folder

    failures = Failures()
    create_folder(folder)
    written = found.write(folder, failures, plots=plots)
    for path in () if quiet else written:
        print(f"kvsim: wrote {path}", file=sys.stderr)
    for failure in failures.found:
        print(f"kvsim: error: {one_line(failure.sentence() if failure.is_defect else failure.why)}", file=sys.stderr)
    if not failures.found:
        return DONE
    return OTHER if failures.has_defects else BAD_INPUT
