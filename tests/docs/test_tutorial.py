"""Commands of the tutorial run, and print what the pages show, in its shape: rows and heads, on fewer requests."""

from __future__ import annotations

import re

import pytest
from walk import DATA, TUTORIAL, Step, steps

STEPS = [(path.stem, place, step) for path in sorted(TUTORIAL.glob("*.md")) for place, step in enumerate(steps(path))]
LABEL = re.compile(r"^ {0,2}([A-Za-z][\w/ .,()]*?)(?:  +| (?=[-+<>]?\d))")
SAID = ("warning", "note", "better", "reasons")


def smaller(command: str) -> list[str]:
    """Flags that make a command of the tutorial a matter of a second."""
    if command.startswith("kvsim predict"):
        return ["--requests", "300"]
    return ["--preset", "smoke"] if command.startswith("kvsim --pd") else []


def shape(printed: str) -> set[str]:
    """Names of the rows before the first sentence."""
    tables = printed.split("\nWhere TTFT goes")[0]
    found = (LABEL.match(line) for line in tables.splitlines())
    return {label[1].split("(")[0].strip() for label in found if label is not None and not label[1].startswith(SAID)}


@pytest.mark.parametrize(("page", "place", "step"), STEPS, ids=[f"{page}-{place}" for page, place, _ in STEPS])
def test_a_command_prints_what_its_page_shows(page: str, place: int, step: Step) -> None:
    if step.needs_data and not DATA.is_dir():
        pytest.skip(f"{DATA} is not there; KVSIM_DATA says where measurements are")
    done = step.run(*smaller(step.command))
    assert done.returncode == 0, done.stderr
    assert shape(done.stdout) == shape(step.shown)
    assert len(shape(step.shown)) > 4


def test_every_page_with_commands_was_walked() -> None:
    assert {page for page, _, _ in STEPS} == {"engineer", "measured"} and len(STEPS) == 7
    assert all(step.shown.strip() for _, _, step in STEPS)


def test_no_line_of_an_output_is_wider_than_a_terminal() -> None:
    wide = [line for _, _, step in STEPS for line in step.shown.splitlines() if len(line) > 80]
    assert not wide
