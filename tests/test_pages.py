"""What pages of the repository name is there: files of ours, by their whole path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from places import REPOSITORY

PAGES = [
    path
    for path in sorted(REPOSITORY.rglob("*.md"))
    if not any(
        part.startswith(".") or part in ("results", "build", "dist") for part in path.relative_to(REPOSITORY).parts
    )
    and path.name != "CHANGELOG.md"
]
OURS = re.compile(r"`((?:kvsim|tests|benchmarks|docs|profiles|policies|learned|trace)/[\w./*-]+|[\w/]+\.py)`")
PLACEHOLDERS = ("NAME", "mine.py", "clock.py")
"""Files that a page lets its reader make."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = {name for name in OURS.findall(page.read_text("utf-8")) if not any(word in name for word in PLACEHOLDERS)}
    places = (REPOSITORY, page.parent)
    assert [name for name in sorted(named) if not any(list(place.glob(name)) for place in places)] == []


def test_pages_are_looked_at() -> None:
    assert len(PAGES) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_table_is_cut_by_an_empty_line(page: Path) -> None:
    assert not re.search(r"^\|.*\|\n\n\|(?!.*\|\n\|[ :-]+\|)", page.read_text("utf-8"), re.MULTILINE)
