"""What a command says beside its report: the exit code, and lines on stderr."""

from __future__ import annotations

DONE, OTHER, BAD_INPUT = 0, 1, 2
"""The exit codes."""


def one_line(message: str) -> str:
    """``message`` with every character that could break its line, a path's newline say, written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in message)
