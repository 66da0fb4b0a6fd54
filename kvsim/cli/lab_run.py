"""``kvsim lab run DESIGN``: a design of the KV lab on a simulated server or a real one, and what follows from it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import findings, options
from kvsim.cli.lab_audit import DesignName, Requests, Seed, changed_by
from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.cli.usage import FlagError
from kvsim.errors import nearest

if TYPE_CHECKING:
    from rich.table import Table

    from kvsim.lab.kv.audit import Audit
    from kvsim.lab.kv.backends.backend import KvBackend
    from kvsim.lab.kv.reading import NamedDesign
    from kvsim.lab.kv.running import Scope
    from kvsim.lab.kv.trial import PhaseRow, Trials

BACKENDS = ("simulated", "url", "local", "modal")
"""As ``kvsim.lab.kv.backends``, which is not imported for ``--help``."""
PRESETS = ("smoke",)
START = "vllm serve"


def backend(text: str) -> str:
    """Who serves."""
    if text not in BACKENDS:
        raise typer.BadParameter(f"{text!r}; {nearest(text, BACKENDS)}")
    return text


def preset(text: str) -> str:
    """How much of a design."""
    if text not in PRESETS:
        raise typer.BadParameter(f"{text!r}; {nearest(text, PRESETS)}")
    return text


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The flags of ``lab run``."""

    design: DesignName
    backend: Annotated[
        str, typer.Option(metavar="NAME", parser=backend, help="Who serves: simulated, url, local, modal.")
    ] = BACKENDS[0]
    url: Annotated[str | None, typer.Option(metavar="URL", help="Of the server that is up, for --backend url.")] = None
    start: Annotated[
        str | None, typer.Option(metavar="WORDS", help=f"What starts a server, for --backend local: '{START}'.")
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the rows; default: results/DESIGN.")] = None
    repeats: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="How many are run, in place of the design's.")
    ] = None
    first_repeat: Annotated[
        int, typer.Option(metavar="K", parser=options.whole, help="The number of the first one, from 0 on.")
    ] = 0
    requests: Requests = None
    seed: Seed = None
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", parser=preset, help="smoke: up to 4 repeats, of up to 8 requests.")
    ] = None
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable with the key; default: KVSIM_API_KEY, else OPENAI_API_KEY."),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --backend modal: what would be run, and what it costs at most.")
    ] = False
    max_usd: Annotated[
        float, typer.Option(metavar="USD", parser=options.positive, help="With --backend modal: the most it may cost.")
    ] = 5.0
    hf_secret: Annotated[
        str | None, typer.Option(metavar="NAME", help="The secret kept at Modal that has HF_TOKEN, for gated models.")
    ] = None
    no_plot: findings.NoPlot = False
    quiet: findings.Quiet = False


@options.taking(RunFlags)
def lab_run(flags: RunFlags) -> int:
    """Run a design of the KV lab: controlled phases, what each took, and what is to be concluded.

    kvsim lab run paired_prefix_cache --preset smoke --out results/paired
    """
    from kvsim.lab.kv.audit import audit
    from kvsim.lab.kv.reading import read_design
    from kvsim.lab.kv.running import SMOKE_REPEATS, Scope, run_design, smoke

    _check_flags(flags)
    asked = read_design(flags.design)
    if flags.preset is not None:
        asked = smoke(asked)
    asked = changed_by(asked, flags.requests, flags.seed)
    usual = asked.design.repeats if flags.preset is None else min(asked.design.repeats, SMOKE_REPEATS)
    scope = Scope(first=flags.first_repeat, count=flags.repeats or usual)
    folder = flags.out or findings.RESULTS / asked.name
    _check_folder(folder)
    audited = audit(asked, scope.first)
    if flags.backend == "modal":
        return _rented(flags, asked, scope, audited, folder)
    told = _Line(shows=sys.stderr.isatty() and not flags.quiet)
    found = run_design(asked, _backend(flags), scope, told)
    told.clear()
    _check_started(asked.where, found)
    return _leave(flags, audited, found, folder)


def _check_started(where: str, found: Trials) -> None:
    """Raise ``CapacityError`` where the server came up nowhere: there is nothing to leave."""
    from kvsim.errors import CapacityError

    if not any(row.started for row in found.phases):
        tried = "; ".join(f"{name} = {value:g}" for name, value in found.phases[0].at.items())
        raise CapacityError(
            f"{where}: the server starts nowhere{f', {tried}' if tried else ''}: {found.phases[0].failure}"
        )


def _check_flags(flags: RunFlags) -> None:
    own_flags = (
        ("url", flags.url, "url"),
        ("start", flags.start, "local"),
        ("dry-run", flags.dry_run, "modal"),
        ("hf-secret", flags.hf_secret, "modal"),
    )
    for name, value, own in own_flags:
        if value and flags.backend != own:
            raise FlagError(f"--{name} goes with --backend {own}, not with {flags.backend}")
    if flags.backend == "url" and flags.url is None:
        raise FlagError("--backend url needs --url http://HOST:PORT")


def _check_folder(folder: Path) -> None:
    """A folder of somebody else's files stays as it is."""
    from kvsim.cli.outputs import check_folder
    from kvsim.lab.kv.folder import RUN

    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUN).is_file():
        raise FlagError(f"--out {folder}: has files and no {RUN}; allowed: a new or an empty folder, or a run's own")


def _rented(flags: RunFlags, asked: NamedDesign, scope: Scope, audited: Audit, folder: Path) -> int:
    """On a GPU that is paid for: the plan is said first."""
    from kvsim.lab.kv.backends.modal import cloud_run, rent
    from kvsim.measure.cloud.words import plan_words
    from kvsim.measure.modal_app import check_account

    run = cloud_run(asked, scope, flags.max_usd, flags.hf_secret)
    if flags.dry_run:
        sys.stdout.write(plan_words(run.plan))
        return DONE
    check_account()
    sys.stdout.write(plan_words(run.plan))
    sys.stdout.flush()
    found = rent(run, lambda line: print(f"kvsim: {line}", file=sys.stderr))
    return _leave(flags, audited, found, folder)


def _backend(flags: RunFlags) -> KvBackend:
    if flags.backend == "url":
        from kvsim.lab.kv.backends.url import RunningServer
        from kvsim.measure import server_of

        assert flags.url is not None, "flags are checked"
        return RunningServer(server_of(flags.url, flags.api_key_env))
    if flags.backend == "local":
        from kvsim.lab.kv.backends.local import LocalServers

        return LocalServers(_words(flags.start or START))
    from kvsim.lab.kv.backends.simulated import SimulatedServers

    return SimulatedServers()


def _words(start: str) -> list[str]:
    try:
        return shlex.split(start)
    except ValueError as error:
        raise FlagError(f"--start {start!r}: {str(error).lower()}") from None


@dataclass(frozen=True)
class _Line:
    """How far a run is, on one line of a terminal's stderr."""

    shows: bool

    def __call__(self, text: str) -> None:
        if self.shows:
            print(f"\r\033[K{one_line(text)}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave no trace of it."""
        if self.shows:
            print("\r\033[K", end="", file=sys.stderr)


def _leave(flags: RunFlags, audited: Audit, found: Trials, folder: Path) -> int:
    """Write the rows, the audit and the report; say what is concluded."""
    from kvsim.cli.outputs import create_folder
    from kvsim.failures import Failures
    from kvsim.lab.kv.analysis.report import write_report
    from kvsim.lab.kv.folder import write_run
    from kvsim.report.json_report import write_json

    create_folder(folder)
    write_json(folder / "audit.json", audited.dump())
    write_run(folder, found)
    failures = Failures()
    said = write_report(folder, found, failures, plots=not flags.no_plot)
    _tell(found, said, folder, quiet=flags.quiet)
    for failure in failures.found:
        print(f"kvsim: error: {one_line(failure.sentence() if failure.is_defect else failure.why)}", file=sys.stderr)
    if failures.found:
        return OTHER if failures.has_defects else BAD_INPUT
    return DONE if any(row.completed for row in found.phases) else OTHER


def _tell(found: Trials, said: str, folder: Path, *, quiet: bool) -> None:
    from rich.console import Console

    from kvsim.report.atomic import reaching_stdout

    with reaching_stdout():
        if not quiet:
            Console(highlight=False).print(_table(found))
            findings.say((*(f"note: {note}" for note in found.notes), "", *said.splitlines()))
        else:
            print(said.rstrip("\n"))
    if not quiet:
        print(f"kvsim: wrote {one_line(str(folder))}", file=sys.stderr)


def _table(found: Trials) -> Table:
    from kvsim.study.words import table_of

    varied = any(row.at for row in found.phases)
    heads = ("repeat", "phase", "done", "TTFT ms", "TPOT ms", "E2E ms", "hits", "expected", "KV")
    table = table_of(f"{found.name}, {found.backend}", (*(("point",) if varied else ()), *heads))
    for row in found.phases:
        point = (", ".join(f"{value:g}" for value in row.at.values()),) if varied else ()
        table.add_row(*point, str(row.repeat), row.phase, *_cells(row))
    table.columns[varied + 1].justify = "left"
    return table


def _cells(row: PhaseRow) -> tuple[str, ...]:
    from kvsim.record.labels import number, percent

    def shown(value: float | None) -> str:
        return "-" if value is None else number(value)

    if not row.started:
        return ("not up", *("-",) * 6)
    hits = row.prefix_hits if row.prefix_hits is not None else row.cached_tokens
    return (
        f"{row.completed}/{row.requests}",
        *map(shown, (row.ttft_mean_ms, row.tpot_mean_ms, row.e2e_mean_ms)),
        "-" if hits is None else f"{hits:,.0f}",
        "-" if row.expected_hit_tokens is None else f"{row.expected_hit_tokens:,}",
        "-" if row.kv_usage_max is None else percent(row.kv_usage_max),
    )
