"""A docstring can be read alone: none goes on from what stands before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import kvsim

PACKAGE = Path(kvsim.__file__).parent
BACKWARD = ("Of ", "The same", "As many", "That ", "Those ", "It ", "They ", "Its ", "Their ")


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of those of modules, classes and functions, and of those behind attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value.strip()


def goes_on(text: str) -> bool:
    return text.startswith(BACKWARD)


def test_no_docstring_goes_on_from_another() -> None:
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {text.splitlines()[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in docstrings(ast.parse(path.read_text("utf-8")))
        if goes_on(text)
    ]
    assert not found, "\n".join(found)


def test_docstrings_of_all_kinds_are_looked_at() -> None:
    source = "'Of a'\nclass A:\n    'The same'\n    x = 1\n    'It is'\n    def f(self):\n        'Its end'\n"
    assert [goes_on(text) for _, text in docstrings(ast.parse(source))] == [True] * 4
    assert not goes_on("Often right.")
