"""``kvsim explain``: what the time to first token of a case consists of, and what removing each cause gives."""

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
class ExplainFlags:
    """The flags of ``explain``."""

    file: Annotated[
        Path | None,
        typer.Argument(metavar="CASE", help="A report (--report-json wrote it), or a YAML configuration."),
    ] = None
    case: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="In place of CASE, the words of a command: '--pd --preset smoke'."),
    ] = None
    pd: Annotated[bool, typer.Option("--pd", help="A configuration is of this mode; default: a single node.")] = False
    cluster: Annotated[bool, typer.Option("--cluster", help="A configuration is of this mode.")] = False
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Scale of a configuration: smoke, dev.")] = None
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One key of a configuration; repeatable.")
    ] = None
    system: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of the case's; default: pd where it is there.")
    ] = None
    replications: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Runs of each, on other requests each.")
    ] = RUNS
    seed: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of the runs but the first.")
    ] = None
    requests: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="Requests to list of those that make p99.")
    ] = ROWS
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the answer as JSON; -: to stdout."),
    ] = None
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the picture, explain.png; without, none.")
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Conclusions alone, a line each.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(ExplainFlags)
def explain(flags: ExplainFlags) -> int:
    """Say what TTFT consists of at p50, p90 and p99, which requests make p99, and what each cause of it is worth.

    kvsim explain report.json
    """
    from kvsim.cli.answers import Answers, answered
    from kvsim.difference.explain import ExplainSpec, run_explain
    from kvsim.difference.explain_pictures import explain_figure
    from kvsim.difference.explain_words import conclusions, print_explanation

    case = _case(flags)
    taken = {} if flags.file is None else {"the case": flags.file}
    answers = Answers(flags.report_json, flags.out, "explain.png", taken)
    answers.check()
    spec = ExplainSpec(case, flags.system, flags.replications, flags.seed, flags.requests)
    return answered(
        answers,
        partial(run_explain, spec),
        print_explanation,
        conclusions,
        explain_figure,
        jobs=options.cores() if flags.jobs is None else flags.jobs,
        quiet=flags.quiet,
    )


def _case(flags: ExplainFlags) -> AskedCase:
    from kvsim.cli.case_words import case_of_file, case_of_words, layered

    how = layered(flags.pd, flags.cluster, flags.preset, flags.set_)
    if (flags.file is None) == (flags.case is None):
        raise FlagError("one case is wanted: a file, or --case with the words of a command")
    if flags.file is not None:
        return case_of_file(flags.file, how)
    if how.given:
        raise FlagError(f"{next(iter(how.given))} is of configuration files; it goes into --case")
    return case_of_words("--case", flags.case or "")
