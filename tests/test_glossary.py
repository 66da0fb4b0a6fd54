"""docs/glossary.md: its examples run, and the files and functions that it names are there."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

from places import REPOSITORY

PAGE = REPOSITORY / "docs" / "glossary.md"
TEXT = PAGE.read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")][
    1:
]


def functions(path: Path) -> set[str]:
    """Functions of a module, those of classes as ``Class.function``."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        of = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found |= {f"{of}{member.name}" for member in members if isinstance(member, ast.FunctionDef)}
    return found


def test_examples_give_what_they_show() -> None:
    example = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(example, {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner().run(test) == doctest.TestResults(0, len(test.examples))
    assert len(test.examples) > 10


def test_files_are_there() -> None:
    named = set(re.findall(r"`((?:kvsim|docs|tests)/[\w/.]+)`", TEXT))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (REPOSITORY / name).is_file()] == []


def test_functions_are_where_they_are_said_to_be() -> None:
    assert len(ROWS) > 25
    for what, files, names in ROWS:
        known = set[str]().union(*(functions(REPOSITORY / name) for name in re.findall(r"`([^`]+)`", files)))
        missing = [name for name in re.findall(r"`([^`]+)`", names) if name not in known]
        assert not missing, (what, missing)
