"""``kvsim lab wNN``: a lab of the course, with a table, CSV, JSON, a picture and a conclusion."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from typing import Any

    from kvsim.lab.found import Found
    from kvsim.lab.lab import Lab

RESULTS = Path("results")


@dataclass(frozen=True, kw_only=True)
class LabFlags:
    """The flags of ``lab``."""

    name: Annotated[
        str | None, typer.Argument(metavar="LAB", help="Which one: w01 to w16, of those that --list names.")
    ] = None
    list_: Annotated[bool, typer.Option("--list", help="Name the labs, and what each asks.")] = False
    preset: Annotated[str, typer.Option(metavar="NAME", help="Scale: smoke, dev or prod-eval.")] = "dev"
    seed: Annotated[int, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")] = 42
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of LAB.json, .csv and .png.")] = None
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no picture.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="The conclusion alone, in a line.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(LabFlags)
def lab(flags: LabFlags) -> int:
    """Do a lab of the course: one question about serving, answered by simulated servers.

    kvsim lab w04 --preset smoke --out results
    """
    from kvsim.cli.outputs import check_folder, create_folder
    from kvsim.errors import ConfigError, nearest
    from kvsim.failures import Failures
    from kvsim.lab.found import do
    from kvsim.lab.lab import SCALES, Desk
    from kvsim.lab.registry import find
    from kvsim.lab.simulated import Simulated

    if flags.list_:
        if flags.name is not None:
            raise FlagError(f"lab: --list names all of them; leave out '{flags.name}' or --list")
        _list()
        return DONE
    if flags.name is None:
        raise FlagError("lab: LAB is missing; --list names them")
    asked = find(flags.name)
    if flags.preset not in SCALES:
        raise ConfigError(f"--preset is '{flags.preset}'; {nearest(flags.preset, SCALES)}")
    folder = flags.out or RESULTS
    check_folder(folder)
    _check_files(folder, asked, plots=not flags.no_plot)
    jobs = options.cores() if flags.jobs is None else flags.jobs
    found = do(asked, Desk(Simulated(flags.seed, jobs), flags.preset, flags.seed))
    _tell(found, quiet=flags.quiet)
    failures = Failures()
    create_folder(folder)
    written = found.write(folder, failures, plots=not flags.no_plot)
    for path in () if flags.quiet else written:
        print(f"kvsim: wrote {path}", file=sys.stderr)
    for failure in failures.found:
        print(f"kvsim: error: {one_line(failure.sentence() if failure.is_defect else failure.why)}", file=sys.stderr)
    if not failures.found:
        return DONE
    return OTHER if failures.has_defects else BAD_INPUT


def _list() -> None:
    from kvsim.lab.registry import find, names

    for name in names():
        print(fill(find(name).question, 100, initial_indent=f"{name}  ", subsequent_indent="     "))


def _check_files(folder: Path, asked: Lab[Any], *, plots: bool) -> None:
    """Raise a ``KvsimError`` where a file of the lab's is there that is no lab's."""
    from kvsim.cli.outputs import check_file

    if not folder.exists():
        return
    table, told = folder / f"{asked.name}.csv", folder / f"{asked.name}.json"
    check_file("--out", told, {}, "JSON")
    if table.is_file() and not told.is_file():
        raise FlagError(f"--out has {str(table)!r}, which is no lab's: {told.name} is not beside it")
    if plots:
        check_file("--out", folder / f"{asked.name}.png", {}, "PNG")
    for end in dict(asked.files):
        check_file("--out", folder / f"{asked.name}{end}", {}, "trace")


def _tell(found: Found, *, quiet: bool) -> None:
    from rich.console import Console

    from kvsim.report.atomic import reaching_stdout

    width = get_terminal_size().columns
    with reaching_stdout():
        if quiet:
            print(found.sentence)
            return
        console = Console(highlight=False)
        for table in found.tables():
            console.print(table)
        for line in (*found.sources(), "", found.sentence):
            print(fill(line, width, break_on_hyphens=False, break_long_words=False))
