"""``kvsim lab compare``: a simulated run of a design beside a measured one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import findings, options
from kvsim.cli.lab_merge import say, told
from kvsim.cli.saying import DONE
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.lab.kv.analysis.compare import Comparison

JSON, PICTURE = "compare.json", "compare.png"


@dataclass(frozen=True, kw_only=True)
class CompareFlags:
    """The flags of ``lab compare``."""

    simulated: Annotated[Path | None, typer.Argument(metavar="SIM", help="Folder of a simulated run.")] = None
    live: Annotated[Path | None, typer.Argument(metavar="LIVE", help="Folder of the same design on a server.")] = None
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help=f"Folder of {JSON} and {PICTURE}.")] = (
        None
    )
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False


@options.taking(CompareFlags)
def lab_compare(flags: CompareFlags) -> int:
    """Hold a simulated run against a measured one: kvsim lab compare SIM LIVE -o DIR.

    Each metric with its error, each difference with both intervals, and whether hits are equal.
    """
    from rich.console import Console

    from kvsim.lab.kv.analysis.compare import compared
    from kvsim.lab.kv.analysis.compare_shown import error_line, sentences, tables
    from kvsim.report.atomic import reaching_stdout

    if flags.simulated is None or flags.live is None:
        raise FlagError("lab compare: two folders are wanted: kvsim lab compare SIM LIVE")
    if flags.out is not None:
        _check(flags.out, plots=not flags.no_plot)
    found = compared(flags.simulated, flags.live)
    with reaching_stdout():
        if not flags.quiet:
            console = Console(highlight=False)
            for table in tables(found):
                console.print(table)
        findings.say((*sentences(found), error_line(found)))
    if flags.out is None:
        return DONE
    return _write(found, flags.out, plots=not flags.no_plot, quiet=flags.quiet)


def _check(out: Path, *, plots: bool) -> None:
    from kvsim.cli.outputs import check_file, check_folder

    check_folder(out)
    if out.exists():
        check_file("-o", out / JSON, {}, "JSON")
        if plots:
            check_file("-o", out / PICTURE, {}, "PNG")


def _write(found: Comparison, out: Path, *, plots: bool, quiet: bool) -> int:
    from kvsim.cli.outputs import create_folder
    from kvsim.experiments.files import Writer, write_each
    from kvsim.failures import Failures
    from kvsim.lab.kv.analysis.compare_shown import comparison_figure
    from kvsim.report.json_report import write_json
    from kvsim.report.plots import write_figure

    writers: dict[str, Writer] = {JSON: lambda path: write_json(path, found.as_json())}
    if plots:
        writers[PICTURE] = lambda path: write_figure(path, comparison_figure(found))
    failures = Failures()
    create_folder(out)
    for path in write_each(out, writers, failures):
        if not quiet:
            say(f"wrote {path}")
    return told(failures)
