"""Running what a command asks, and handing over what came of it: files, the report on the terminal, the exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, TypeVar

from kvsim.cli.outputs import Outputs
from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.failures import Failure, Failures
from kvsim.report.atomic import is_stdout, reaching_stdout

if TYPE_CHECKING:
    from kvsim.config import LoadedConfig
    from kvsim.modes.experiment import Experiment
    from kvsim.report.report import Report
    from kvsim.sim.executor import Executor


Made = TypeVar("Made")


def simulated(run: Callable[[Executor], Made], jobs: int, *, quiet: bool) -> tuple[Made, float]:
    """What ``run`` makes on ``jobs`` processes, and the CPU time that others took for it."""
    from kvsim.report.progress import progress_bar
    from kvsim.sim.executor import Processes

    if threading.current_thread() is threading.main_thread():
        # A shell script's background jobs start with SIGINT ignored; a run must end with a report there too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with Processes(jobs, partial(progress_bar, quiet=quiet)) as executor:
        return run(executor), executor.cpu_s


def hand_over(
    loaded: LoadedConfig,
    outputs: Outputs,
    report: Report,
    experiment: Experiment,
    warnings: Sequence[str],
    *,
    quiet: bool,
    show_plots: bool = False,
) -> int:
    """Write the files, show the report; what fails of that leaves the rest. Returns the exit code.

    Flags without an effect are told once the run has succeeded, so that bad input stays one line.
    """
    unwritten, unshown = Failures(), Failures()
    notes = list(loaded.provenance.notes)
    written = outputs.write(report, experiment, unwritten, notes)
    unshown.attempt("the report on the terminal", partial(_shown, report, quiet=quiet))
    say_beside(warnings, notes, written, quiet=quiet, show_plots=show_plots)
    sound = all(result.conservation.ok for result in report.results)
    failed = [*unwritten.found, *unshown.found]
    return outcome(failed, experiment.failures, quiet=quiet, whole=sound and not experiment.incomplete)


def say_beside(
    warnings: Sequence[str], notes: Sequence[str], written: list[Path], *, quiet: bool, show_plots: bool
) -> None:
    """What concerns the flags and the files rather than the cluster; pictures are opened on request."""
    for warning in warnings:
        _stderr(f"warning: {warning}")
    if not quiet:
        _say(notes, written)
    if show_plots:
        _show(written)


def outcome(failed: Sequence[Failure], parts: Sequence[Failure], *, quiet: bool, whole: bool) -> int:
    """Say what could not be written or shown; returns the exit code. ``parts``: what of the run itself failed, which
    its report says unless ``quiet``. ``whole``: nothing was cut short, and all laws hold.
    """
    if quiet:
        for failure in parts:
            _stderr(f"warning: {failure.sentence()}")
    for failure in failed:
        _stderr(f"error: {failure.sentence() if failure.is_defect else failure.why}")
    if any(not failure.is_defect for failure in failed):
        return BAD_INPUT
    return OTHER if not whole or any(failure.is_defect for failure in (*failed, *parts)) else DONE


def _shown(report: Report, *, quiet: bool) -> None:
    """The tables, or under ``--quiet`` conclusions alone, which carry their own reservations: the run's, and that of
    each study that was made."""
    with reaching_stdout():
        if quiet:
            _say_conclusions(report)
            return
        from rich.console import Console

        from kvsim.report.tables import print_report

        print_report(Console(highlight=False), report)


def _say_conclusions(report: Report) -> None:
    """The run's, and that of each study."""
    from kvsim.study.catalogue import studies

    known = studies()
    found = [f"{known[key].name}: {known[key].sentence(answer)}" for key, answer in (report.studies or {}).items()]
    say_lines((report.conclusion, *found))


def say_lines(conclusions: Iterable[str]) -> None:
    """A line each, for whatever reads it; on a terminal in lines as long as it is wide."""
    for conclusion in conclusions:
        if sys.stdout.isatty():
            conclusion = fill(conclusion, get_terminal_size().columns, break_on_hyphens=False, break_long_words=False)
        print(conclusion)


def _say(notes: Sequence[str], written: list[Path]) -> None:
    for note in notes:
        _stderr(f"note: {note}")
    for path in written:
        if not is_stdout(path):
            _stderr(f"wrote {path}")


def _show(written: list[Path]) -> None:
    from kvsim.cli.pictures import show

    why = show([path for path in written if path.suffix == ".png"])
    if why is not None:
        _stderr(f"warning: pictures are not shown: {why}")


def _stderr(message: str) -> None:
    print(f"kvsim: {one_line(message)}", file=sys.stderr)
