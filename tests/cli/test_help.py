"""What is answered without simulating anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import kvsim as package
from kvsim.cli.app import app

MAIN = Path(__file__).resolve().parents[2] / "main.py"

FLAGS = """
    --pd --cluster --config --preset --calibration-profile --workload-trace --workload-format --workload-limit
    --workload-time-unit --workload-arrival-scale --workload-include-failed --workload-hash-tokens-per-block
    --strict-workload-validation --report-json --report-csv --report-html --no-plot --show-plot --skip-context-sweep
    --no-train
    --learned-train-mode --learned-train-fraction --seed --set --policy --load --workload-replicas --stepwise --quiet
    --out
"""

HEAVY = ("numpy", "polars", "matplotlib", "scipy", "pydantic.main", "simpy", "rich.console", "yaml")


def test_help_tells_every_flag(kvsim, empty: Path) -> None:
    code, out, err = kvsim("--help")
    assert (code, err) == (0, "")
    assert [flag for flag in FLAGS.split() if not re.search(rf"^\s+{flag}\b", out, re.MULTILINE)] == []
    assert list(empty.iterdir()) == []


def test_help_of_a_verb(kvsim) -> None:
    code, out, err = kvsim("trace", "lint", "--help")
    assert (code, err) == (0, "")
    assert "--workload-format" in out and "--json" in out


def verbs(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, *path, name)


@pytest.mark.parametrize("verb", list(verbs(typer.main.get_command(app))), ids=" ".join)
def test_help_names_values_and_breaks_no_word(kvsim, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No type of the program, such as ``<float range>``; no line that ends within ``meta-llama``."""
    for width in (60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, err = kvsim(*verb, "--help")
        assert (code, err) == (0, "")
        assert not re.search(r"<\w+|\[\[|\{[A-Z]|\]\.\.\.|\w-$", out.replace("[ARGS]...", ""), re.MULTILINE)
        assert out.isascii() and max(map(len, out.splitlines())) <= max(width, 80)


def test_the_example_of_predict_can_be_copied(kvsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = kvsim("predict", "--help")[1]
    assert '  kvsim predict "vllm serve meta-llama/Llama-3.1-8B-Instruct" --gpu h100-sxm\n' in out


def test_version(kvsim) -> None:
    assert kvsim("--version") == (0, f"kvsim {package.__version__}\n", "")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from kvsim.cli import main; main(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=MAIN.parent, check=True)
    assert done.stderr == "[]\n"


def test_nobody_reads_stdout() -> None:
    """``kvsim --help | true``: no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, MAIN, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")
