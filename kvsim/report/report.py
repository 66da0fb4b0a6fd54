"""One typed object is the report: terminal, JSON, pictures and pages are readers of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvsim.record.plain import plain
from kvsim.report.conclude import conclude
from kvsim.report.json_report import json_text, write_json
from kvsim.report.sections import Sections


@dataclass(frozen=True, kw_only=True)
class Report(Sections):
    """What a run found out, section by section, and ways to tell it."""

    @property
    def conclusion(self) -> str:
        """The sentence that is printed below the tables: who is better, under which condition, and why."""
        return conclude(self)

    def to_json(self) -> str:
        """The report as ``--report-json`` writes it."""
        return json_text(plain(self))

    def write_json(self, path: Path | str) -> None:
        """Write :meth:`to_json`, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
        write_json(Path(path), plain(self))
