"""``kvsim study NAME``: one question, asked for itself, with a table, CSV, JSON, a picture and a conclusion."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import findings, options, served
from kvsim.cli.saying import BAD_INPUT, DONE, one_line
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.capacity.sources import WordSource
    from kvsim.experiments.finding import Finding
    from kvsim.modes.variants import Layers
    from kvsim.sim.executor import Executor
    from kvsim.workload.traffic import TraceSource


@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """The flags of ``study``."""

    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which one, of those that --list names; run_all: every one.")
    ] = None
    list_: Annotated[bool, typer.Option("--list", help="Name the studies, and what each asks.")] = False
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML over config.yaml, and over what the study sets itself.")
    ] = None
    calibration_profile: options.CalibrationProfile = None
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Scale: smoke, dev or prod-eval.")] = None
    set_: options.Sets = None
    seed: Annotated[int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")] = (
        None
    )
    replications: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.several, help="Runs of each variant, 2 or more."),
    ] = None
    cpu_budget: options.CpuBudget = None
    workload: Annotated[
        str | None,
        typer.Option(metavar="W", help="A word or a trace file, for studies that do not draw requests of their own."),
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of NAME.json, .csv and .png.")] = None
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False
    jobs: findings.Jobs = None


@options.taking(StudyFlags)
def study(flags: StudyFlags) -> int:
    """Answer one question by runs of its own, repeated until the answer is certain or the budget is spent.

    kvsim study network_variance --preset smoke --out results
    """
    from kvsim.cli.outputs import check_folder
    from kvsim.experiments.registry import RUN_ALL, find, names

    if flags.list_:
        if flags.name is not None:
            raise FlagError(f"study: --list names all of them; leave out '{flags.name}' or --list")
        _list()
        return DONE
    if flags.name is None:
        raise FlagError("study: NAME is missing; --list names them")
    asked = names() if flags.name == RUN_ALL else (flags.name,)
    for name in asked:
        find(name)
    folder = flags.out or findings.RESULTS
    check_folder(folder)
    for name in asked:
        findings.check_files(folder, name, "study", plots=not flags.no_plot)
    worst = DONE
    for name in asked:
        worst = max(worst, _answered(name, flags, folder, others=len(asked) > 1))
    return worst


def _list() -> None:
    from kvsim.experiments.registry import RUN_ALL, find, names

    told = {name: find(name).question for name in names()} | {RUN_ALL: "Every one of these, one after the other."}
    indent = max(map(len, told)) + 2
    for name, question in told.items():
        print(fill(question, 100, initial_indent=f"{name:<{indent}}", subsequent_indent=" " * indent))


def _answered(name: str, flags: StudyFlags, folder: Path, *, others: bool) -> int:
    """Ask, tell and write; returns the exit code. One that fails leaves the ``others`` theirs."""
    from kvsim.cli.handing_over import simulated
    from kvsim.errors import KvsimError
    from kvsim.experiments.finding import find_out
    from kvsim.experiments.registry import find

    def ask(executor: Executor) -> Finding:
        return find_out(find(name), _layers(flags), _served(flags), executor)

    jobs = options.cores() if flags.jobs is None else flags.jobs
    try:
        found, _ = simulated(ask, jobs, quiet=flags.quiet)
    except KvsimError as error:
        if not others:
            raise
        print(f"kvsim: error: {name}: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    _tell(found, quiet=flags.quiet, labelled=others)
    return findings.write_files(found, folder, plots=not flags.no_plot, quiet=flags.quiet)


def _layers(flags: StudyFlags) -> Layers:
    from kvsim.modes.variants import Layers

    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    number = flags.replications
    often = () if number is None else (f"studies.replications={number}", f"studies.most_replications={number}")
    sets = (*(flags.set_ or ()), *seed, *often, *options.budget_sets(flags.cpu_budget))
    return Layers(flags.config, flags.calibration_profile, flags.preset, None, sets)


def _served(flags: StudyFlags) -> TraceSource | WordSource | None:
    from kvsim.workload.reading import Reading

    return None if flags.workload is None else served.source_of(flags.workload, Reading(), None, None)


def _tell(found: Finding, *, quiet: bool, labelled: bool) -> None:
    from rich.console import Console

    from kvsim.report.atomic import reaching_stdout

    sentence = f"{found.study.name}: {found.sentence}" if labelled else found.sentence
    with reaching_stdout():
        if not quiet:
            console = Console(highlight=False)
            for table in found.study.tables(found.answer):
                console.print(table)
            sentence = fill(sentence, get_terminal_size().columns, break_on_hyphens=False, break_long_words=False)
        print(sentence)
