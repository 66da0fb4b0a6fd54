"""Calling the command line in-process, from an empty working directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from installed import as_installed

from kvsim.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
MAIN = CHECKOUT / "main.py"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without a file in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def kvsim(empty: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``kvsim("--pd", ...)`` in this process."""

    def run(*arguments: str | Path) -> Outcome:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture
def python_main(empty: Path) -> Callable[..., Outcome]:
    """``python main.py ...`` in a process of its own; keywords are environment variables."""

    def run(*arguments: str | Path, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, MAIN, *map(str, arguments)],
            cwd=empty,
            env=as_installed() | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
