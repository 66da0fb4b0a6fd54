"""Compiled or not, the same code: the same reports, and sources that are newer than their extensions win."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from kvsim._compiled import DIGEST, compiled_sources, digest

ROOT = Path(__file__).resolve().parent.parent
ASK = "from kvsim._compiled import engine; print(engine())"


def python(*arguments: str, pure: bool) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "KVSIM_PURE"}
    if pure:
        environment["KVSIM_PURE"] = "1"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def report(folder: Path, *, pure: bool) -> dict:
    out = folder / f"pure_{pure}"
    path = folder / f"{pure}.json"
    python(
        "main.py", "--pd", "--preset", "smoke", "--studies", "transfer", "--quiet", "--no-plot",
        "--out", str(out), "--report-json", str(path),
        pure=pure,
    )  # fmt: skip
    found = json.loads(path.read_text())
    assert found.pop("run")["engine"] == ("pure" if pure else "compiled")
    return found


def test_kvsim_pure_means_the_sources() -> None:
    assert python("-c", ASK, pure=True).strip() == "pure"


def test_compiled_modules_give_the_same_report(tmp_path: Path) -> None:
    if python("-c", ASK, pure=False).strip() == "pure":
        pytest.skip("no fresh compiled modules here")
    assert report(tmp_path, pure=False) == report(tmp_path, pure=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one compiled module, whose extension cannot be loaded, and the file that says it is its own."""
    found = tmp_path / "kvsim"
    (found / "sim" / "engine").mkdir(parents=True)
    shutil.copy(ROOT / "kvsim" / "_compiled.py", found)
    (found / "__init__.py").write_text("from kvsim._compiled import prefer_fresh\nprefer_fresh()\n")
    for folder in (found / "sim", found / "sim" / "engine"):
        (folder / "__init__.py").write_text("")
    source = found / "sim" / "engine" / "engine.py"
    source.write_text("VALUE = 7\n")
    source.with_suffix(EXTENSION_SUFFIXES[0]).write_bytes(b"no extension")
    (found / DIGEST).write_text(digest(found))
    return found


def imported(package: Path) -> subprocess.CompletedProcess[str]:
    ask = "from kvsim.sim.engine.engine import VALUE; from kvsim._compiled import engine; print(VALUE, engine())"
    environment = {key: value for key, value in os.environ.items() if key != "KVSIM_PURE"}
    command = [sys.executable, "-c", ask]
    return subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True, check=False)


def test_extensions_of_these_sources_are_loaded_whatever_their_times(package: Path) -> None:
    for path in package.rglob("*"):
        os.utime(path, (1, 1) if path.suffix == ".so" else None)
    assert "ImportError" in imported(package).stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda package: (package / "sim" / "engine" / "engine.py").write_text("VALUE = 7  # other\n"),
        lambda package: (package / "sim" / "more.py").write_text(""),
        lambda package: (package / DIGEST).unlink(),
        lambda package: (package / DIGEST).write_text(""),
    ],
    ids=["a source changed", "one is not compiled", "no digest", "an empty digest"],
)
def test_those_of_other_sources_are_not(package: Path, change: Callable[[Path], object]) -> None:
    change(package)
    done = imported(package)
    assert (done.stdout.strip(), done.returncode) == ("7 pure", 0), done.stderr


def test_all_of_simulated_time_is_compiled_and_what_it_asks_at_every_step() -> None:
    names = {str(path.relative_to(ROOT / "kvsim")) for path in compiled_sources(ROOT / "kvsim")}
    sources = {str(path.relative_to(ROOT / "kvsim")) for path in (ROOT / "kvsim" / "sim").rglob("*.py")}
    assert {name for name in sources if not name.endswith("__init__.py")} <= names
    assert {"plan/engine_settings.py", "workload/request.py", "steptime/curves/tables.py"} <= names
