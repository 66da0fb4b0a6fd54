"""``kvsim sweep``: a simulation for every combination of values, and a row of a table of each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli import options
from kvsim.cli.saying import DONE, OTHER, one_line
from kvsim.cli.usage import FlagError, Verbs
from kvsim.errors import nearest

if TYPE_CHECKING:
    from kvsim.sweep.drive import State
    from kvsim.sweep.executors import Workers
    from kvsim.sweep.plan import Plan
    from kvsim.sweep.ranking import By
    from kvsim.sweep.table import Table

EXECUTORS = ("local", "ray", "dask")
MAX_RUNS = 100_000
"""Runs of a sweep that nobody has allowed more."""


def executor(text: str) -> str:
    """Where runs are performed."""
    if text not in EXECUTORS:
        raise typer.BadParameter(f"{text!r}; {nearest(text, EXECUTORS)}")
    return text


def shard(text: str) -> str:
    """``I/N``, with ``I`` from 0 on, as indexed jobs count."""
    index, _, of = text.partition("/")
    if not (index.isascii() and index.isdigit() and of.isascii() and of.isdigit() and int(index) < int(of)):
        raise typer.BadParameter(f"{text!r}; allowed: I/N, with I from 0 to N-1")
    return text


class _SweepVerbs(Verbs):
    """``kvsim sweep FILE`` is ``kvsim sweep run FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = (*self.list_commands(ctx), *ctx.help_option_names)
        if args and args[0] not in known:
            args = ["run", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


sweep_app = typer.Typer(cls=_SweepVerbs, rich_markup_mode=None, add_completion=False)


@sweep_app.callback(invoke_without_command=True)
def sweep(ctx: typer.Context) -> None:
    """Simulate every combination of values: kvsim sweep FILE.yaml --out DIR."""
    if ctx.invoked_subcommand is None:
        raise FlagError("sweep: a file is missing: kvsim sweep FILE.yaml, or kvsim sweep merge DIR... --out DIR")


By_ = Annotated[
    str | None,
    typer.Option("--by", metavar="FIGURE", help="Rank points by it, e.g. pd.ttft_p99_ms; default: goodput."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no ranking.")]


@dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """The flags of ``sweep``."""

    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What to run, in YAML: mode, preset, keys, replications.")
    ]
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the table; default: results/NAME, by the file's name.")
    ] = None
    executor: Annotated[
        str, typer.Option(metavar="NAME", parser=executor, help="Where runs are performed: local, ray, dask.")
    ] = "local"
    address: Annotated[
        str | None, typer.Option(metavar="A", help="A Ray cluster's or Dask scheduler's; without, one is started here.")
    ] = None
    processes: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Runs at a time here; default: the cores.")
    ] = None
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", parser=shard, help="Every Nth run, from the Ith on: 0/8 to 7/8.")
    ] = None
    max_runs: Annotated[int, typer.Option(metavar="N", parser=options.count, help="Refuse a sweep of more runs.")] = (
        MAX_RUNS
    )
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Repeat runs whose row is an error, as well as missing ones.")
    ] = False
    drop_damaged: Annotated[
        bool, typer.Option("--drop-damaged", help="Leave out damaged rows of the table, and run them again.")
    ] = False
    by: By_ = None
    quiet: Quiet = False


@sweep_app.command("run")
@options.taking(SweepFlags)
def run(flags: SweepFlags) -> int:
    """Run what a file says; the same command again goes on where it was ended.

    A row a run is appended to DIR/runs.jsonl as it ends, and DIR/table.csv and table.parquet are made of them.
    """
    from kvsim.cli.outputs import check_folder, create_folder
    from kvsim.record.labels import counted
    from kvsim.sweep.executors import workers_of
    from kvsim.sweep.plan import Plan
    from kvsim.sweep.sweep import read_sweep
    from kvsim.sweep.table import Table

    if flags.address is not None and flags.executor == "local":
        raise FlagError("--address needs --executor ray or dask")
    if flags.address is not None and flags.processes is not None:
        raise FlagError("--processes is of this machine; at --address the cluster says how many")
    by = _by(flags.by)
    plan = Plan(read_sweep(flags.file), flags.max_runs)
    folder = flags.out or Path("results") / flags.file.stem
    check_folder(folder)
    table = Table(folder, plan)
    table.check()
    with workers_of(flags.executor, flags.address, flags.processes or options.cores()) as workers:
        create_folder(folder)
        with table.opened(drops_damaged=flags.drop_damaged):
            if table.dropped:
                _say(f"left out {counted(table.dropped, 'damaged row')} of {table.path}")
            state = _driven(plan, table, workers, flags)
    if state is None:
        return OTHER
    _finish(folder, by, quiet=flags.quiet)
    return OTHER if state.failed else DONE


@sweep_app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders that shards of one sweep wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the whole table.")],
    by: By_ = None,
    quiet: Quiet = False,
) -> int:
    """Make one table of shards: kvsim sweep merge DIR DIR --out DIR.

    Exit code 1: runs are missing, or have failed.
    """
    from kvsim.cli.outputs import check_folder, create_folder
    from kvsim.sweep.merge import merged, write_merged

    chosen = _by(by)
    check_folder(out)
    found = merged(folders, out)
    create_folder(out)
    write_merged(found, out)
    _finish(out, chosen, quiet=quiet)
    missing = found.header.num_runs - len(found.rows)
    if missing:
        _say(f"{missing:,} of {found.header.num_runs:,} runs are missing; kvsim sweep FILE --out {out} runs them")
    return OTHER if missing or found.failed else DONE


def _by(text: str | None) -> By:
    from kvsim.sweep.ranking import USUAL, by_of

    return by_of(text or USUAL, "--by")


def _driven(plan: Plan, table: Table, workers: Workers, flags: SweepFlags) -> State | None:
    """How far it came; ``None``: it was ended before all of its runs had."""
    from kvsim.cli.sweep_progress import progress
    from kvsim.record.labels import counted
    from kvsim.sweep.drive import Shard, drive
    from kvsim.sweep.executors import Gone

    part = Shard(*map(int, flags.shard.split("/"))) if flags.shard else Shard()
    try:
        with progress(quiet=flags.quiet) as told:
            state = drive(plan, table, workers, part, told, retries=flags.retry_failed)
    except (KeyboardInterrupt, Gone) as error:
        kept = f"{sum(map(bool, table.done)):,} of {len(plan):,} runs have a row; the same command runs the rest"
        _say(f"{str(error) or 'interrupted'}: {kept}")
        return None
    _say(f"{counted(state.done, 'run')}, {state.failed:,} failed; {state.cpu_s:,.1f} CPU-seconds now")
    return state


def _finish(folder: Path, by: By, *, quiet: bool) -> None:
    """Write the table, print the ranking."""
    from kvsim.config import load_config
    from kvsim.sweep.effect import without_effect
    from kvsim.sweep.finished import rows_in, write_finished
    from kvsim.sweep.ranking import ranked
    from kvsim.sweep.shown import error_lines, ranking_lines
    from kvsim.sweep.table import points_in, sweep_in

    written = write_finished(folder)
    asked, points = sweep_in(folder), points_in(folder)
    if not quiet:
        found = ranked(rows_in(folder), asked, by, load_config().config.studies.confidence, points)
        sys.stdout.write("".join(f"{line}\n" for line in ranking_lines(found, asked)))
    for line in error_lines(rows_in(folder)):
        _say(f"warning: {line}")
    for key in without_effect(rows_in(folder), asked):
        _say(f"warning: {key} makes no difference to any figure of any run")
    if not quiet:
        for path in written:
            _say(f"wrote {path}")


def _say(message: str) -> None:
    print(f"kvsim: {one_line(message)}", file=sys.stderr)
