"""``kvsim lab merge``: chunks of repeats as one run with its report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kvsim.cli import findings, options
from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.cli.usage import FlagError
from kvsim.failures import Failures


@dataclass(frozen=True, kw_only=True)
class MergeFlags:
    """The flags of ``lab merge``."""

    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Folders of kvsim lab run, of one design.")
    ] = None
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder of the whole run.")] = None
    skip_damaged: Annotated[bool, typer.Option("--skip-damaged", help="Leave damaged folders out, and say so.")] = False
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False


@options.taking(MergeFlags)
def lab_merge(flags: MergeFlags) -> int:
    """Make one run of chunks of repeats: kvsim lab merge DIR DIR -o DIR."""
    from kvsim.cli.outputs import create_folder
    from kvsim.lab.kv.analysis.analysis import analyse
    from kvsim.lab.kv.analysis.merge import merged, missing, read_chunks
    from kvsim.lab.kv.analysis.report import write_report
    from kvsim.lab.kv.folder import write_run

    if not flags.folders:
        raise FlagError("lab merge: DIR is missing: the folders of kvsim lab run")
    if flags.out is None:
        raise FlagError("lab merge: -o DIR is missing: the folder of the whole run")
    check_run_folder(flags.out, flags.folders)
    chunks, damaged = read_chunks(flags.folders, skip_damaged=flags.skip_damaged)
    whole = merged(chunks)
    analyse(whole)
    for error in damaged:
        say(f"left out: {error}")
    create_folder(flags.out)
    write_run(flags.out, whole)
    failures = Failures()
    said = write_report(flags.out, whole, failures, plots=not flags.no_plot)
    if flags.quiet:
        print(said)
    else:
        findings.say(said.splitlines())
    if lacking := missing(whole):
        say(f"warning: repeats are missing: {', '.join(map(str, lacking))}")
    if not flags.quiet:
        say(f"wrote {flags.out}")
    return told(failures)


def check_run_folder(out: Path, inputs: list[Path]) -> None:
    """Raise a ``KvsimError`` where ``out`` is read from, cannot be made, or holds what is no run."""
    from kvsim.cli.outputs import check_folder
    from kvsim.lab.kv.folder import RUN

    for folder in inputs:
        if out.resolve() == folder.resolve():
            raise FlagError(f"-o is {str(out)!r}, which is read; another folder is wanted")
    check_folder(out)
    if out.is_dir() and any(out.iterdir()) and not (out / RUN).is_file():
        raise FlagError(f"-o is {str(out)!r}, which has files and no {RUN}; allowed: a new or empty folder, or a run's")


def say(message: str) -> None:
    """A line on stderr."""
    print(f"kvsim: {one_line(message)}", file=sys.stderr)


def told(failures: Failures) -> int:
    """Say what could not be written; returns the exit code."""
    for failure in failures.found:
        say(f"error: {failure.sentence() if failure.is_defect else failure.why}")
    if not failures.found:
        return DONE
    return OTHER if failures.has_defects else BAD_INPUT
