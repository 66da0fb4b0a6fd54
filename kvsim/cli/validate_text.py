"""What ``validate`` writes: lines and tables, at most ``COLUMNS`` wide, and JSON where it is asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

COLUMNS = 80


def check_json(path: Path | None, taken: Mapping[str, Path]) -> None:
    """Raise a ``KvsimError`` where ``--json`` cannot be written, or is one of the files ``taken``."""
    from kvsim.cli.outputs import check_file

    if path is not None:
        check_file("--json", path, taken, "JSON")


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    """Write ``report`` where ``--json`` is given."""
    from kvsim.report import json_report

    if path is not None:
        json_report.write_json(path, report)


def wrapped(text: str) -> str:
    """Lines, the further ones indented."""
    return f"{textwrap.fill(text, COLUMNS, subsequent_indent='  ', break_on_hyphens=False)}\n"


def figure(value: float | None, width: int) -> str:
    """Four digits or all of the whole ones."""
    if value is None:
        return "-".rjust(width)
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:{width},.{digits}f}"


def error(value: float | None, width: int) -> str:
    """Signed percent."""
    return "-".rjust(width) if value is None else f"{f'{value:+,.1f}%':>{width}}"


def percentage(value: float | None, width: int, *, signed: bool = True) -> str:
    """Percent without its sign, for columns that say so."""
    if value is None:
        return "-".rjust(width)
    digits = 0 if abs(value) >= 1000 else 1
    return f"{value:{'+' if signed else ''}.{digits}f}".rjust(width)


def compared_rows(rows: Iterable[tuple[str, float | None, float | None, float | None]]) -> Iterator[str]:
    """Name, measured, predicted, error in percent, under their headings."""
    yield f"  {'':<24}{'measured':>14}{'predicted':>14}{'error':>12}\n"
    for name, measured, predicted, error_pct in rows:
        yield f"  {name:<24}{figure(measured, 14)}{figure(predicted, 14)}{error(error_pct, 12)}\n"
