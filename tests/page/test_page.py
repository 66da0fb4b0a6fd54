"""What stands on a page, read without a browser."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from reports import read_back

from kvsim.cli.outputs import _BEGINNINGS
from kvsim.page import html_of, page, write_html
from kvsim.reasons import Reason
from kvsim.record.plain import plain
from kvsim.report.comparison import groups

MOST_BYTES = 5_000_000
VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Addresses, ids, styles, the cells of tables; and whether every element ends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.styles: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.labelled: list[bool] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ("src", "href", "action", "srcset", "data") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.styles += [given["style"]] if "style" in given else []
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "th":
            self.labelled.append("scope" in given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "style":
            self.styles.append(text)
        if "td" in self.open[-2:] or "th" in self.open[-2:]:
            self.tables[-1][-1][-1] += text


@pytest.fixture(scope="module")
def read(told) -> Reader:
    return Reader(told.page)


def test_it_is_one_file_that_asks_nobody(told, read):
    assert len(told.page.encode()) <= MOST_BYTES
    assert read.open == []
    assert [each for each in read.addresses if not re.match(r"#\w|data:(image/png;base64,|,)", each)] == []
    assert not any("url(" in style or "@import" in style for style in read.styles)


def test_addresses_on_it_lead_somewhere(read):
    assert len(set(read.ids)) == len(read.ids)
    assert {each[1:] for each in read.addresses if each.startswith("#")} <= set(read.ids)
    assert all(read.labelled)


def test_its_side_by_side_table_has_the_figures_of_the_json_report(told, read):
    results = read_back(plain(told.report)).results
    rows = [row.cells(results) for group in groups(results) for row in group]
    assert read.tables[0] == [["", "unified", "PD", "better"], *rows]
    assert len(rows) > 25


def test_the_conclusion_and_every_warning_stand_on_it(told):
    from html import escape

    from kvsim.report.caveats import warnings

    assert escape(told.report.conclusion) in told.page
    assert all(escape(warning) in told.page for warning in warnings(told.report))


def test_the_same_seed_gives_the_same_page_but_for_the_machine(told, run_again):
    report, experiment = run_again
    machine = re.compile(r'<div id="machine">.*?</div>|[\d,]+ s of CPU', re.DOTALL)
    once, again = (machine.sub("", page) for page in (told.page, html_of(report, experiment.results)))
    assert once == again
    assert report.run.started_at not in once


def test_what_the_user_named_is_text(told):
    model = told.report.config.model.model_copy(update={"name": '<script>alert("x")</script><b onload=x>'})
    config = told.report.config.model_copy(update={"model": model})
    page = html_of(dataclasses.replace(told.report, config=config), told.results)
    assert "<script>alert" not in page and "<b onload" not in page
    assert "&lt;script&gt;alert(&quot;x&quot;)" in page
    Reader(page)


def test_without_detail_it_says_what_is_missing(told):
    results = [dataclasses.replace(result, detail=None) for result in told.results]
    text = html_of(told.report, results)
    assert text.count(page.NO_DETAIL) == 2
    assert 'id="time-0"' not in text and 'id="cdf-ttft"' in text


def test_reasons_stand_below_the_conclusion(told):
    said = [
        ("hits are few & far", "pd"),
        ("short prompts", "unified"),
        ("both", None),
        ("one by one", "pd"),
        ("one by one", "unified"),
    ]
    why = tuple(
        Reason(about="ttft", rule="r", sentence=sentence, figures={}, weight=0.5, system=system)
        for sentence, system in said
    )
    reasoned = dataclasses.replace(told.report, why=why)
    assert page.reasons_of(reasoned) == ["PD: hits are few & far", "unified: short prompts", "both", "one by one"]
    assert "<li>PD: hits are few &amp; far</li>" in html_of(reasoned, told.results)


def test_it_replaces_a_page_and_nothing_else(told, tmp_path):
    path = tmp_path / "page.html"
    write_html(path, told.report, told.results)
    assert path.read_text() == told.page
    assert re.match(_BEGINNINGS["HTML"], told.page.encode())
    assert not re.match(_BEGINNINGS["HTML"], b"<!doctype html><p>somebody else's")
    assert list(tmp_path.iterdir()) == [path]
