"""A lab, done: its answer with what it holds for, and the files that tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim._version import __version__
from kvsim.errors import ConfigError
from kvsim.experiments.files import Writer, csv_of, write_each, write_text
from kvsim.failures import Failures
from kvsim.lab.backend import SIMULATED
from kvsim.lab.lab import Answer, Desk, Lab
from kvsim.record.labels import listed
from kvsim.record.plain import plain
from kvsim.report.json_report import write_json
from kvsim.report.plots import write_figure
from kvsim.study.words import table_of

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Found:
    """What a lab found at its desk."""

    lab: Lab[Any]
    desk: Desk
    answer: Answer[Any]

    @property
    def sentence(self) -> str:
        """The conclusion, and behind it how it was found."""
        return f"{self.answer.sentence} [{self.desk.backend.name}, preset {self.desk.scale}, seed {self.desk.seed}]"

    def as_json(self) -> dict[str, object]:
        """Everything that is known of it."""
        return {
            "lab": self.lab.name,
            "question": self.lab.question,
            "conclusion": self.sentence,
            "version": __version__,
            "backend": self.desk.backend.name,
            "preset": self.desk.scale,
            "seed": self.desk.seed,
            "rows": plain(self.answer.rows),
            "beside": plain(self.answer.beside),
            "asked": plain(self.answer.asked),
        }

    def tables(self) -> Iterator[Table]:
        """The rows of the lab, and published figures beside its own where there are any."""
        table = table_of(self.lab.title, tuple(self.lab.columns))
        cells = [[cell(row) for cell in self.lab.columns.values()] for row in self.answer.rows]
        for line in cells:
            table.add_row(*line)
        for column, text in zip(table.columns, zip(*cells, strict=True), strict=True):
            if any(one[:1].isalpha() for one in text):
                column.justify = "left"
        yield table
        if not self.answer.beside:
            return
        beside = table_of("Beside published figures", ("", "theirs", "ours", "sign"))
        for one in self.answer.beside:
            beside.add_row(one.what, one.theirs, one.ours, "same" if one.same_sign else "other")
        yield beside

    def sources(self) -> Iterator[str]:
        """Where each published figure comes from, and what is otherwise there."""
        said: dict[str, list[str]] = {}
        for one in self.answer.beside:
            where = one.source + (f"; {one.why_not_equal}" if one.why_not_equal else "")
            said.setdefault(where, []).append(one.what)
        for where, what in said.items():
            yield f"{listed(what)}: {where}"

    def write(self, folder: Path, failures: Failures, *, plots: bool = True) -> list[Path]:
        """``wNN.json``, ``wNN.csv``, ``wNN.png`` and what else a lab has, into the existing ``folder``; returns what
        was written."""
        return write_each(folder, self._writers(plots=plots), failures)

    def _writers(self, *, plots: bool) -> dict[str, Writer]:
        name = self.lab.name
        writers: dict[str, Writer] = {
            f"{name}.json": lambda path: write_json(path, self.as_json()),
            f"{name}.csv": lambda path: write_text(path, csv_of(self.answer.rows)),
        }
        if plots:
            writers[f"{name}.png"] = lambda path: write_figure(path, self.lab.figure(self.answer))
        for end, write in dict(self.lab.files).items():
            writers[name + end] = partial(self._further, write)
        return writers

    def _further(self, write: Callable[[Path, Desk, Answer[Any]], None], path: Path) -> None:
        write(path, self.desk, self.answer)


def do(lab: Lab[Any], desk: Desk) -> Found:
    """Do the lab. Raises a ``KvsimError`` for what cannot be served, or seen by the backend."""
    if lab.simulated_only and desk.backend.name != SIMULATED:
        raise ConfigError(
            f"lab {lab.name} looks into steps, which the backend '{desk.backend.name}' cannot see; "
            f"allowed: the backend '{SIMULATED}'"
        )
    return Found(lab, desk, lab.ask(desk))
