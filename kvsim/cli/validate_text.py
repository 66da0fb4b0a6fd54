"""What ``validate`` writes: lines and tables, at most ``COLUMNS`` wide, and JSON where it is asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

COLUMNS = 80
NOTHING, SMALLEST = 1e-9, 0.0005
"""What is as good as nothing, and what has no digit left of the three behind the point."""


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
    """Four digits or all of the whole ones, as far as they go into the column."""
    if value is None:
        return "-".rjust(width)
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    if NOTHING < abs(value) < SMALLEST:
        return _fitting(width, *_powers(value))
    return _fitting(width, f"{value:,.{digits}f}", f"{value:.0f}", *_powers(value))


def error(value: float | None, width: int) -> str:
    """Signed percent."""
    if value is None:
        return "-".rjust(width)
    texts = (f"{value:+,.1f}", f"{value:+,.0f}", *_powers(value, "+"))
    return _fitting(width, *(f"{text}%" for text in texts))


def percentage(value: float | None, width: int, *, signed: bool = True) -> str:
    """Percent without its sign, for columns that say so."""
    if value is None:
        return "-".rjust(width)
    sign = "+" if signed else ""
    digits = 0 if abs(value) >= 1000 else 1
    return _fitting(width, f"{value:{sign}.{digits}f}", f"{value:{sign}.0f}", *_powers(value, sign))


def _powers(value: float, sign: str = "") -> tuple[str, str]:
    """``1.2e7`` and ``1e7``."""
    found = (f"{value:{sign}.{digits}e}".partition("e") for digits in (1, 0))
    first, second = (f"{mantissa}e{int(power)}" for mantissa, _, power in found)
    return first, second


def _fitting(width: int, *texts: str) -> str:
    """The first of ``texts`` that leaves a space before it in its column, else the last."""
    return next((text for text in texts if len(text) < width), texts[-1]).rjust(width)


def compared_rows(rows: Iterable[tuple[str, float | None, float | None, float | None]]) -> Iterator[str]:
    """Name, measured, predicted, error in percent, under their headings."""
    yield f"  {'':<24}{'measured':>14}{'predicted':>14}{'error':>12}\n"
    for name, measured, predicted, error_pct in rows:
        yield f"  {name:<24}{figure(measured, 14)}{figure(predicted, 14)}{error(error_pct, 12)}\n"
