"""Tables that no terminal cuts: what is too wide for it goes on below, the names of the rows repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

LONGEST_WORD = 16
"""Characters of a heading's word that stay together."""
_ANY_WIDTH = 10_000
"""A terminal on which nothing is cut when it is measured."""


def print_whole(console: Console, table: Table) -> None:
    """Print ``table``, whose cells are text: names in the first column wrap, figures in the others are never cut."""
    if console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum <= console.width:
        console.print(table)
        return
    figures = [_Figures(column) for column in table.columns[1:]]
    frame, gap = _frame(console, table, figures)
    room = console.width - frame
    groups = list(_groups(figures, room - _names(table, figures, room, gap), gap))
    for place, group in enumerate(groups):
        part = _part(table, group, _names(table, figures, room, gap))
        part.title = table.title if place == 0 else None
        part.caption = table.caption if place == len(groups) - 1 else None
        console.print(part)


def _frame(console: Console, table: Table, figures: Sequence[_Figures]) -> tuple[int, int]:
    """What the box takes beside names and one column of figures, and what each further column takes beside its own."""
    wide = console.options.update(width=_ANY_WIDTH)
    widths = [console.measure(_part(table, figures[:count], 1), options=wide).maximum for count in (1, 2)]
    first = sum(each.width for each in figures[:1])
    return widths[0] - 1 - first, widths[1] - widths[0] - figures[1].width if len(figures) > 1 else 0


def _names(table: Table, figures: Sequence[_Figures], room: int, gap: int) -> int:
    """The width of the first column: all stand side by side if that leaves words whole, else it has a third."""
    names = [str(table.columns[0].header), *table.columns[0].cells]
    whole, longest = _width(names), max((len(word) for name in names for word in str(name).split()), default=0)
    left = room - sum(each.width + gap for each in figures) + gap
    if left >= min(whole, longest):
        return min(whole, left)
    widest = max((each.width for each in figures), default=0)
    return max(1, min(whole, room // 3, room - widest))


class _Figures:
    """A column with its heading cut into lines, and its width."""

    def __init__(self, column: Column) -> None:
        self.column = column
        cells = _width(list(column.cells))
        # Headings that are given in lines keep them.
        lines = [line for given in str(column.header).split("\n") for line in _lines(given, cells)]
        self.heading = "\n".join(lines)
        self.width = max([cells, column.min_width or 0, *map(len, lines)])


def _lines(heading: str, cells: int) -> list[str]:
    longest = max(map(len, heading.split()), default=1)
    return wrap(heading, max(cells, min(longest, LONGEST_WORD)), break_on_hyphens=False)


def _width(cells: Sequence[object]) -> int:
    texts = [cell.plain if isinstance(cell, Text) else str(cell) for cell in cells]
    return max((len(line) for text in texts for line in text.split("\n")), default=0)


def _groups(figures: Sequence[_Figures], room: int, gap: int) -> Iterator[list[_Figures]]:
    """Columns in groups that fit, at least one at least; one group without any where there is none."""
    group: list[_Figures] = []
    used = 0
    for each in figures:
        if group and used + gap + each.width > room:
            yield group
            group, used = [], 0
        used += each.width + (gap if group else 0)
        group.append(each)
    if group or not figures:
        yield group


def _part(table: Table, figures: Sequence[_Figures], names: int) -> Table:
    first = table.columns[0]
    part = Table(
        title_justify=table.title_justify,
        caption_justify=table.caption_justify,
        title_style=table.title_style,
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        show_header=table.show_header,
    )
    part.add_column(first.header, justify=first.justify, width=names, overflow="fold")
    for each in figures:
        column = each.column
        part.add_column(each.heading, justify=column.justify, style=column.style, width=each.width, no_wrap=True)
    cells = zip(first.cells, *(each.column.cells for each in figures), strict=True)
    for row, line in zip(table.rows, cells, strict=True):
        part.add_row(*line, end_section=row.end_section)
    return part
