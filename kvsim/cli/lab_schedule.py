"""``kvsim lab schedule``: a workload file, served by several schedulers under a budget of KV memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import findings, options
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.lab.kv.queue.budget import Budget
    from kvsim.lab.kv.queue.scheduled import Scheduled

SERVER = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
BUDGET = "tight-1gb-kv"


@dataclass(frozen=True, kw_only=True)
class ScheduleFlags:
    """The flags of ``lab schedule``."""

    file: Annotated[Path, typer.Argument(metavar="WORKLOAD.json", help="As kvsim lab workload writes it.")]
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Repeatable: fifo, shortest-cache, vllm, memory-aware-deadline; default: all."
        ),
    ] = None
    kv_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help=f"KV memory, as 1gb or 1gib, or a name; default: {BUDGET}."),
    ] = None
    sweep_budget: Annotated[
        str | None, typer.Option(metavar="SIZE,SIZE", help="Several budgets instead, a row each and scheduler.")
    ] = None
    max_concurrent_requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Seats; default: the line's max_num_seqs.")
    ] = None
    server: Annotated[
        str | None, typer.Option(metavar="LINE", help="'vllm serve MODEL ...'; default: Llama 3.1 8B, no flags.")
    ] = None
    gpu: options.Gpu = None
    tokenise_us_per_token: Annotated[
        float, typer.Option(metavar="US", parser=options.seconds, help="Microseconds a prompt token, before the queue.")
    ] = 0.0
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the files; default: results.")
    ] = None
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False


@options.taking(ScheduleFlags)
def lab_schedule(flags: ScheduleFlags) -> int:
    """Serve a workload by several schedulers under a budget of KV memory, and follow every request.

    kvsim lab schedule mixed.json --kv-budget tight-1gb-kv --max-concurrent-requests 8 -o DIR
    """
    from kvsim.cli.outputs import check_folder
    from kvsim.lab.kv.queue.scheduled import NAME, Asked, schedule
    from kvsim.lab.kv.queue.schedulers import schedulers_of
    from kvsim.lab.kv.queue.served_workload import sent
    from kvsim.lab.kv.queue.workload_file import read_workload

    schedulers = schedulers_of(flags.scheduler or (), "--scheduler")
    budgets = _budgets(flags)
    folder = flags.out or findings.RESULTS
    check_folder(folder)
    findings.check_files(folder, NAME, "schedule", plots=not flags.no_plot)
    _check_rows(folder, NAME)
    queued = read_workload(flags.file)
    found = schedule(
        Asked(
            sent=sent(queued, flags.tokenise_us_per_token),
            server=flags.server or SERVER,
            gpu=flags.gpu,
            budgets=budgets,
            schedulers=schedulers,
            seats=flags.max_concurrent_requests,
        )
    )
    _tell(found, quiet=flags.quiet)
    return findings.write_files(found, folder, plots=not flags.no_plot, quiet=flags.quiet)


def _budgets(flags: ScheduleFlags) -> tuple[Budget, ...]:
    from kvsim.lab.kv.queue.budget import budget_of, budgets_of

    if flags.sweep_budget is None:
        return (budget_of(flags.kv_budget or BUDGET, "--kv-budget"),)
    if flags.kv_budget is not None:
        raise FlagError("--kv-budget and --sweep-budget: one of both")
    return budgets_of(flags.sweep_budget, "--sweep-budget")


def _check_rows(folder: Path, name: str) -> None:
    """Tables of others stay."""
    for table in (folder / "requests.csv", folder / "timeline.csv"):
        if table.is_file() and not (folder / f"{name}.json").is_file():
            raise FlagError(f"--out has {str(table)!r}, which is no schedule's: {name}.json is not beside it")


def _tell(found: Scheduled, *, quiet: bool) -> None:
    from rich.console import Console

    from kvsim.report.atomic import reaching_stdout

    with reaching_stdout():
        if quiet:
            print(found.sentence)
            return
        Console(highlight=False).print(found.table())
        findings.say((*found.notes(), "", found.sentence))
