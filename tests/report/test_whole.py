"""Tables keep every figure at every width."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Table

from kvsim.report.whole import print_whole

FIGURES = st.integers(0, 10**12).map("{:,}".format)


def shown(width: int, columns: list[str], rows: list[list[str]], **look: object) -> list[str]:
    table = Table(title="Title", box=box.SIMPLE_HEAD, **look)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    print_whole(Console(width=width, file=stream), table)
    return stream.getvalue().splitlines()


def test_the_widest_figures_stand_beside_one_another() -> None:
    """Two of them are wider than the terminal together: the gap between columns is measured without one."""
    rows = [["a.long.name:Policy", "0", "1,000,000", *"0000"], ["b", "100,000,000,000", *"00000"]]
    lines = shown(30, ["hits"] * 6, rows, pad_edge=False)
    assert "1,000,000" in " ".join(lines).split() and max(map(len, lines)) <= 30


@settings(deadline=None, max_examples=40)
@given(
    st.integers(30, 120),
    st.lists(st.sampled_from(["hits", "TTFT mean ms", "goodput a s", "session_\nprefetch"]), max_size=9),
    st.data(),
    st.booleans(),
)
def test_every_figure_is_whole_and_no_line_too_long(width, columns, data, edge) -> None:
    names = ["baseline", "selective_write", "some.package.of.mine:Policy"]
    rows = [[name, *data.draw(st.lists(FIGURES, min_size=len(columns), max_size=len(columns)))] for name in names]
    lines = shown(width, columns, rows, pad_edge=edge)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    for figure in {figure for row in rows for figure in row[1:]}:
        wanted = sum(row[1:].count(figure) for row in rows)
        assert words.count(figure) >= wanted


def test_what_fits_stays_one_table_and_what_does_not_repeats_the_names() -> None:
    rows = [["lru", "1", "2"], ["arc", "3", "4"]]
    assert sum("lru" in line for line in shown(40, ["first one", "second one"], rows)) == 1
    split = shown(24, ["first_figure", "second_figure"], rows)
    assert sum("lru" in line for line in split) == 2 and sum("Title" in line for line in split) == 1


@pytest.mark.parametrize("columns", [0, 1])
def test_few_columns(columns: int) -> None:
    assert any("lru" in line for line in shown(80, ["hits"][:columns], [["lru", "5"][: columns + 1]]))
