"""Answers of verbs that simulate and have no report: where their files go, how they are told, the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kvsim.cli.handing_over import simulated
from kvsim.cli.outputs import check_file
from kvsim.cli.saying import DONE, one_line
from kvsim.cli.usage import FlagError
from kvsim.report.atomic import ensure_takes_files, is_stdout

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from kvsim.sim.executor import Executor

A = TypeVar("A")


@dataclass(frozen=True)
class Answers:
    """Where an answer is written."""

    json: Path | None
    folder: Path | None
    picture: str
    """What it is called in the folder."""
    taken: Mapping[str, Path]
    """What is read, by what it is."""

    def check(self) -> None:
        """Raise a ``KvsimError`` when something could not be written or would replace an input."""
        if self.json is not None:
            check_file("--report-json", self.json, self.taken, "JSON")
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise FlagError(f"--out is {str(self.folder)!r}, which is no folder")
        if self.folder.is_dir():
            ensure_takes_files(self.folder)
            check_file("--out", self.folder / self.picture, self.taken, "PNG")


def answered(
    answers: Answers,
    run: Callable[[Executor], A],
    show: Callable[[Console, A], None],
    conclusions: Callable[[A], Sequence[str]],
    figure: Callable[[A], Figure],
    *,
    jobs: int,
    quiet: bool,
) -> int:
    """Simulate, write, tell; returns the exit code. An interrupt goes on as ``KeyboardInterrupt``: half an answer is
    none."""
    from rich.console import Console

    from kvsim.record.plain import plain
    from kvsim.report.json_report import write_json

    answer, _ = simulated(run, jobs, quiet=quiet)
    written = []
    if answers.json is not None:
        write_json(answers.json, plain(answer))
        written.append(answers.json)
    if answers.folder is not None:
        written.append(_drawn(answers.folder, answers.picture, figure(answer)))
    if quiet:
        sys.stdout.write("".join(f"{line}\n" for line in conclusions(answer)))
    else:
        show(Console(highlight=False), answer)
        for path in written:
            if not is_stdout(path):
                print(f"kvsim: {one_line(f'wrote {path}')}", file=sys.stderr)
    return DONE


def _drawn(folder: Path, name: str, figure: Figure) -> Path:
    from kvsim.report.plots import write_figure

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlagError(f"--out: cannot create {str(folder)!r}: {error.strerror}") from error
    write_figure(folder / name, figure)
    return folder / name
