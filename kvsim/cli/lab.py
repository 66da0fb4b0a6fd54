"""``kvsim lab``: a lab of the course by its name, and the verbs of the KV lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli import findings, options
from kvsim.cli.saying import DONE
from kvsim.cli.usage import FlagError, Verbs

if TYPE_CHECKING:
    from kvsim.lab.found import Found

COURSE = "course"
"""What ``kvsim lab w04`` runs, whose name nobody types."""


class Labs(Verbs):
    """The verbs of the KV lab; anything else is a lab of the course."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse as the base class, with the verb that a lab's name stands for put before it."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [COURSE, *args]
        return super().parse_args(ctx, args)


lab_app = typer.Typer(
    cls=Labs,
    help="Do a lab of the course (kvsim lab w04; --list names them), or run a design of the KV lab.",
    rich_markup_mode=None,
    add_completion=False,
)


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
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False
    jobs: findings.Jobs = None


@lab_app.command(COURSE, hidden=True)
@options.taking(LabFlags)
def lab(flags: LabFlags) -> int:
    """Do a lab of the course: one question about serving, answered by simulated servers.

    kvsim lab w04 --preset smoke --out results
    """
    from kvsim.cli.outputs import check_folder
    from kvsim.errors import ConfigError, nearest
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
    asked = find(flags.name, verbs())
    if flags.preset not in SCALES:
        raise ConfigError(f"--preset is '{flags.preset}'; {nearest(flags.preset, SCALES)}")
    folder = flags.out or findings.RESULTS
    check_folder(folder)
    findings.check_files(folder, asked.name, "lab", plots=not flags.no_plot, traces=dict(asked.files))
    jobs = options.cores() if flags.jobs is None else flags.jobs
    found = do(asked, Desk(Simulated(flags.seed, jobs), flags.preset, flags.seed))
    _tell(found, quiet=flags.quiet)
    return findings.write_files(found, folder, plots=not flags.no_plot, quiet=flags.quiet)


def verbs() -> list[str]:
    """What may stand where a lab's name does."""
    return [command.name for command in lab_app.registered_commands if command.name and not command.hidden]


def _list() -> None:
    from kvsim.lab.registry import find, names

    for name in names():
        print(fill(find(name).question, 100, initial_indent=f"{name}  ", subsequent_indent="     "))


def _tell(found: Found, *, quiet: bool) -> None:
    from rich.console import Console

    from kvsim.report.atomic import reaching_stdout

    with reaching_stdout():
        if quiet:
            print(found.sentence)
            return
        console = Console(highlight=False)
        for table in found.tables():
            console.print(table)
        findings.say((*found.sources(), "", found.sentence))
