"""Shards of a sweep become one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.report.atomic import replacing
from kvsim.sweep.table import ROWS, TIMES, Header, ensure_unused, read_header, read_lines


@dataclass(frozen=True)
class Merged:
    """Rows of several tables."""

    header: Header
    rows: Mapping[int, str]
    """By run, as lines."""
    failed: int
    """Rows with an error."""
    times: str


def merged(folders: Sequence[Path], out: Path) -> Merged:
    """The rows of all folders, and those that are in ``out``.

    A run that stands in several must have one row in all, but for one with an error, which gives way. Raises a
    ``KvsimError`` where it has not, and where tables are of different sweeps or of another kvsim each.
    """
    sources = [*folders, *([out] if (out / ROWS).exists() and out not in folders else ())]
    header = _common([(folder / ROWS, _header(folder / ROWS)) for folder in sources])
    if not (out / ROWS).exists():
        ensure_unused(out)
    rows: dict[int, tuple[str, bool]] = {}
    for folder in sources:
        for line, row in read_lines(folder / ROWS):
            number, failed = row["run"], row["error"] is not None
            before = rows.get(number)
            if before is None or before[1]:
                rows[number] = line, failed
            elif not failed and before[0] != line:
                at = named(folder / ROWS)
                raise KvsimError(f"{at}: run {number} has another row in another table; one of the two is wrong")
    times = [(folder / TIMES).read_text() for folder in sources if (folder / TIMES).exists()]
    lines = {number: rows[number][0] for number in sorted(rows)}
    return Merged(header, lines, sum(failed for _, failed in rows.values()), "".join(times))


def write_merged(found: Merged, out: Path) -> None:
    """Make a sweep's table of it, which may be gone on with. Raises a ``KvsimError`` where it cannot be written."""
    with replacing(out / ROWS) as file:
        file.write(f"{found.header.line()}\n".encode())
        file.writelines(f"{line}\n".encode() for line in found.rows.values())
    with replacing(out / TIMES) as file:
        file.write(found.times.encode())


def _header(path: Path) -> Header:
    found = read_header(path)
    if found is None:
        raise KvsimError(f"{named(path)}: no such table of a sweep")
    return found


def _common(headers: Sequence[tuple[Path, Header]]) -> Header:
    first_path, first = headers[0]
    for path, header in headers[1:]:
        if header.digest != first.digest:
            raise KvsimError(f"{named(path)}: is of another sweep than {named(first_path)}")
        if header.identity != first.identity:
            raise KvsimError(f"{named(path)}: has rows of {header.identity}, {named(first_path)} of {first.identity}")
    return first
