"""Tables of the page, of what the terminal's are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from kvsim.page.markup import Html, element, together
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import COMPONENT_LABELS, number, percent, system_label
from kvsim.report.comparison import groups

MANY = 5
"""Compared systems from which on a table is printed on its own sheet, across."""


def scrolled(caption: str, table: Html) -> Html:
    """A table that is moved within its own frame where it is too wide, by keys too."""
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def grid(
    caption: str, head: Sequence[str], body: Iterable[Sequence[str]], *, ends: Sequence[int] = (), class_: str = ""
) -> Html:
    """A table whose first column names its rows; a line below the rows at ``ends``."""
    heads = element("tr", *(element("th", text, scope="col") for text in head))
    rows = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell) for cell in row[1:]),
            class_="end" if place in ends else None,
        )
        for place, row in enumerate(body)
    ]
    made = element(
        "table",
        element("caption", caption),
        element("thead", heads),
        element("tbody", *rows),
        class_=class_ or None,
    )
    return scrolled(caption, made)


def of_terminal(table: Table, caption: str = "") -> Html:
    """A table of the terminal; ``caption`` where it has no title."""
    head = [str(column.header).replace("_\n", "_").replace("\n", " ") for column in table.columns]
    body = list(zip(*([_plain(cell) for cell in column.cells] for column in table.columns), strict=True))
    ends = [place for place, row in enumerate(table.rows) if row.end_section]
    title = _plain(table.title) if table.title else ""
    made = grid(title.replace("\n", " ") or caption, head, body, ends=ends, class_=_width(len(head)))
    return together(made, element("p", _plain(table.caption), class_="said")) if table.caption else made


def side_by_side(results: Sequence[SystemSummary]) -> Html:
    """All figures of the compared systems, and of two of them which is better."""
    head = ["", *(system_label(result.name) for result in results), *(["better"] if len(results) == 2 else [])]
    body: list[list[str]] = []
    ends = []
    for group in groups(results):
        body += [row.cells(results) for row in group]
        ends.append(len(body) - 1)
    kind = "compared pair" if len(results) == 2 else f"compared {_width(len(results))}".strip()
    return grid("Latencies, rates, caches, use of the machines", head, body, ends=ends, class_=kind)


def waterfall(results: Sequence[SystemSummary]) -> Html:
    """The parts of TTFT of each system, in milliseconds and as shares of it; those that no system has are left out."""
    parts = [part for result in results for part in (result.attribution_ms.mean, result.attribution_ms.p99)]
    used = [name for name in COMPONENT_LABELS if any(part[name] for part in parts)]
    head = ["ms", *(COMPONENT_LABELS[name] for name in used), "TTFT"]
    body = []
    for result in results:
        for which, own in (("mean", result.attribution_ms.mean), ("p99", result.attribution_ms.p99)):
            total = sum(value or 0.0 for value in own.values())
            cells = (_part(own[name], total) for name in used)
            body.append([f"{system_label(result.name)} {which}", *cells, number(total)])
    return grid("Where TTFT goes (ms, and share of it)", head, body, ends=range(1, len(body), 2))


def _part(value_ms: float | None, total_ms: float) -> str:
    share = percent((value_ms or 0.0) / total_ms if total_ms else None)
    return f"{number(value_ms)} ({share})"


def _width(columns: int) -> str:
    return "wide" if columns > MANY else ""


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
