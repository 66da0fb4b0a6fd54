"""The page of reasons names every rule, and what a terminal and a file have of them."""

from __future__ import annotations

import io
import json
import re

import pytest
from places import REPOSITORY
from reasoned import subject_of
from reports import report_of, summary
from rich.console import Console

from kvsim.reasons import RULES, SUBJECTS, Reason
from kvsim.report.tables import print_reasons

PAGE = (REPOSITORY / "docs/reasons.md").read_text("utf-8")
OF_HITS = {"missing_head", "tails_first"}


def test_the_page_has_every_rule_under_its_subject() -> None:
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(SUBJECTS)
    for subject, text in sections.items():
        own = {rule.__name__ for rule in RULES if subject_of(rule) == subject}
        assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) - OF_HITS == own, subject


def test_every_rule_is_of_a_subject_and_says_what_it_is() -> None:
    for rule in RULES:
        assert subject_of(rule) in SUBJECTS and rule.__doc__


def reason(system: str | None, sentence: str, weight: float) -> Reason:
    return Reason(about="ttft", rule="r", sentence=sentence, figures={"n": 1}, weight=weight, system=system)


@pytest.mark.parametrize(
    ("systems", "lines"), [(("pd",), ["  - One."]), (("pd", "unified"), ["  - PD: One.", "  - Two."])]
)
def test_the_terminal_names_the_system_where_there_are_several(systems: tuple[str, ...], lines: list[str]) -> None:
    why = (reason("pd", "One.", 0.9), *([reason("unified", "Two.", 0.5)] if len(systems) > 1 else ()))
    report = report_of(*(summary(name=name) for name in systems), why=why)
    out = io.StringIO()
    print_reasons(Console(file=out, width=80), report)
    found = [line.rstrip() for line in out.getvalue().splitlines()]
    assert [line.replace("unified: ", "") for line in found] == lines
    assert json.loads(report.to_json())["why"][0] == {
        "about": "ttft", "rule": "r", "sentence": "One.", "figures": {"n": 1}, "weight": 0.9, "system": "pd",
    }  # fmt: skip
