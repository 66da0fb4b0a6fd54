"""``kvsim study NAME``: one question, asked for itself, with a table, CSV, JSON, a picture and a conclusion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    from kvsim.capacity.sources import WordSource
    from kvsim.experiments.finding import Finding
    from kvsim.modes.variants import Layers
    from kvsim.sim.executor import Executor
    from kvsim.workload.traffic import TraceSource

RESULTS = Path("results")


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
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no picture.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="The conclusion alone, in a line.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(StudyFlags)
def study(flags: StudyFlags) -> int:
    """Answer one question by runs of its own, repeated until the answer is certain or the budget is spent.

    kvsim study network_variance --preset smoke --out results
    """
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
    folder = flags.out or RESULTS
    _check_folder(folder, asked, plots=not flags.no_plot)
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


def _check_folder(folder: Path, asked: Sequence[str], *, plots: bool) -> None:
    from kvsim.cli.outputs import Outputs, Reports, check_file

    Outputs(Reports(None, None), folder, plots=True).check({})
    if folder.exists():
        for name in asked:
            table, told = folder / f"{name}.csv", folder / f"{name}.json"
            check_file("--out", told, {}, "JSON")
            if table.is_file() and not told.is_file():
                raise FlagError(f"--out has {str(table)!r}, which is no study's: {told.name} is not beside it")
            if plots:
                check_file("--out", folder / f"{name}.png", {}, "PNG")


def _answered(name: str, flags: StudyFlags, folder: Path, *, others: bool) -> int:
    """Ask, tell and write; returns the exit code. One that fails leaves the ``others`` theirs."""
    from kvsim.cli.handing_over import simulated
    from kvsim.errors import KvsimError
    from kvsim.experiments.finding import find_out
    from kvsim.experiments.registry import find
    from kvsim.failures import Failures

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
    failures = Failures()
    folder.mkdir(parents=True, exist_ok=True)
    written = found.write(folder, failures, plots=not flags.no_plot)
    for path in () if flags.quiet else written:
        print(f"kvsim: wrote {path}", file=sys.stderr)
    for failure in failures.found:
        print(f"kvsim: error: {one_line(failure.sentence() if failure.is_defect else failure.why)}", file=sys.stderr)
    if not failures.found:
        return DONE
    return OTHER if failures.has_defects else BAD_INPUT


def _layers(flags: StudyFlags) -> Layers:
    from kvsim.modes.variants import Layers

    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    number = flags.replications
    often = () if number is None else (f"studies.replications={number}", f"studies.most_replications={number}")
    sets = (*(flags.set_ or ()), *seed, *often, *options.budget_sets(flags.cpu_budget))
    return Layers(flags.config, flags.calibration_profile, flags.preset, None, sets)


def _served(flags: StudyFlags) -> TraceSource | WordSource | None:
    from kvsim.capacity.sources import WordSource
    from kvsim.workload.traffic import TraceSource
    from kvsim.workload.words import word_of

    if flags.workload is None:
        return None
    is_file = Path(flags.workload).is_file()
    return TraceSource(flags.workload) if is_file else WordSource(word_of(flags.workload))


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
