"""``kvsim diff``: what two cases differ in, on the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError
from kvsim.difference.usual import ROWS, RUNS

if TYPE_CHECKING:
    from kvsim.difference.asked import AskedCase


@dataclass(frozen=True, kw_only=True)
class DiffFlags:
    """The flags of ``diff``."""

    a_file: Annotated[
        Path | None, typer.Argument(metavar="A", help="A report (--report-json wrote it), or a YAML configuration.")
    ] = None
    b_file: Annotated[Path | None, typer.Argument(metavar="B", help="The same, for the other side.")] = None
    a: Annotated[
        str | None,
        typer.Option("--a", metavar="WORDS", help="In place of A, the words of a command: '--pd --preset smoke'."),
    ] = None
    b: Annotated[str | None, typer.Option("--b", metavar="WORDS", help="In place of B, as --a.")] = None
    pd: Annotated[bool, typer.Option("--pd", help="Configurations are of this mode; default: a single node.")] = False
    cluster: Annotated[bool, typer.Option("--cluster", help="Configurations are of this mode.")] = False
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Scale of configurations: smoke, dev.")] = None
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One key of both; repeatable.")
    ] = None
    systems: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="What of both to compare; default: all of --pd, else the first."),
    ] = None
    replications: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Runs of each side, on other requests each.")
    ] = RUNS
    seed: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of the runs but the first.")
    ] = None
    requests: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Requests to list that moved most.")
    ] = ROWS
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the answer as JSON; -: to stdout."),
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the picture, diff.png; without, none.")] = (
        None
    )
    quiet: Annotated[bool, typer.Option("--quiet", help="Conclusions alone, a line each.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(DiffFlags)
def diff(flags: DiffFlags) -> int:
    """Compare two cases on the same requests: which figures and which parts of TTFT differ, and where it begins.

    kvsim diff before.json after.json
    kvsim diff one.yaml other.yaml --pd --preset smoke
    """
    from kvsim.cli.answers import Answers, answered
    from kvsim.difference.diff import DiffSpec, run_diff
    from kvsim.difference.diff_pictures import diff_figure
    from kvsim.difference.diff_words import conclusions, print_diff

    a, b = _sides(flags)
    files = [path for path in (flags.a_file, flags.b_file) if path is not None]
    answers = Answers(flags.report_json, flags.out, "diff.png", {f"the case {path}": path for path in files})
    answers.check()
    systems = None if flags.systems is None else [name.strip() for name in flags.systems.split(",")]
    spec = DiffSpec(a, b, systems, flags.replications, flags.seed, flags.requests)
    return answered(
        answers,
        partial(run_diff, spec),
        print_diff,
        conclusions,
        diff_figure,
        jobs=options.cores() if flags.jobs is None else flags.jobs,
        quiet=flags.quiet,
    )


def _sides(flags: DiffFlags) -> tuple[AskedCase, AskedCase]:
    """The two cases, by files and words; a single file stands for the side that no words do."""
    from kvsim.cli.case_words import case_of_file, case_of_words, layered

    files = [path for path in (flags.a_file, flags.b_file) if path is not None]
    words = [("--a", flags.a), ("--b", flags.b)]
    missing = sum(text is None for _, text in words)
    if len(files) != missing:
        wants = "two cases are wanted: A and B, files, or --a and --b, words of a command"
        raise FlagError(f"{len(files) + 2 - missing} cases are given; {wants}")
    how = layered(flags.pd, flags.cluster, flags.preset, flags.set_)
    if not files and how.given:
        raise FlagError(f"{next(iter(how.given))} is of configuration files; it goes into --a and --b")
    left = iter(files)
    a, b = (case_of_file(next(left), how) if text is None else case_of_words(flag, text) for flag, text in words)
    return a, b
