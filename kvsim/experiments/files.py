"""The files that tell what was found: JSON, CSV with a line a row, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvsim.failures import Failures
from kvsim.record.plain import plain
from kvsim.report.atomic import replacing

Writer = Callable[[Path], None]


def csv_of(rows: Sequence[object]) -> str:
    """A line a row, a dataclass each; what stands inside another gets both names, with a dot between."""
    lines = [dict(flat(plain(row))) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def flat(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of one line."""
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{above}{key}", (":" if key.endswith("ratio") else " ").join(map(str, value))
        else:
            yield f"{above}{key}", value


def write_text(path: Path, text: str) -> None:
    """Whole or not at all; a path that cannot be written raises a ``KvsimError``."""
    with replacing(path) as file:
        file.write(text.encode())


def write_each(folder: Path, writers: Mapping[str, Writer], failures: Failures) -> list[Path]:
    """Write each file by its writer into the existing ``folder``; what fails is among ``failures`` and costs itself
    only. Returns what was written."""
    written = []
    for file, write in writers.items():
        before, path = len(failures.found), folder / file
        failures.attempt(file, lambda write=write, path=path: write(path))  # type: ignore[misc]
        if len(failures.found) == before:
            written.append(path)
    return written
