"""Compiled or not, the same code: the same reports, and sources that are newer than their extensions win."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ASK = "from kvsim._compiled import is_compiled; print(is_compiled())"


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
    del found["run"]
    return found


def test_kvsim_pure_means_the_sources() -> None:
    assert python("-c", ASK, pure=True).strip() == "False"


def test_compiled_modules_give_the_same_report(tmp_path: Path) -> None:
    if python("-c", ASK, pure=False).strip() == "False":
        pytest.skip("no fresh compiled modules here")
    assert report(tmp_path, pure=False) == report(tmp_path, pure=True)


def test_a_source_newer_than_its_extension_is_used(tmp_path: Path) -> None:
    """A package of one module whose extension is garbage, older than the source: it is never loaded."""
    from importlib.machinery import EXTENSION_SUFFIXES

    package = tmp_path / "kvsim"
    (package / "node").mkdir(parents=True)
    (package / "_compiled.py").write_text((ROOT / "kvsim" / "_compiled.py").read_text())
    (package / "__init__.py").write_text("from kvsim._compiled import prefer_fresh\nprefer_fresh()\n")
    (package / "node" / "__init__.py").write_text("")
    source = package / "node" / "engine.py"
    source.write_text("VALUE = 7\n")
    extension = source.with_name("engine" + EXTENSION_SUFFIXES[0])
    extension.write_bytes(b"no extension")
    os.utime(extension, (1, 1))
    done = subprocess.run(
        [sys.executable, "-c", "from kvsim.node.engine import VALUE; print(VALUE)"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr


def test_what_earlier_compilations_left_goes(tmp_path: Path) -> None:
    """The extension of a module that is no longer on the list, which would make all others count as stale."""
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import remove_others
    finally:
        sys.path.remove(str(ROOT))
    from importlib.machinery import EXTENSION_SUFFIXES

    suffix = EXTENSION_SUFFIXES[0]
    (tmp_path / "kvsim" / "node").mkdir(parents=True)
    names = ("new__mypyc", "kvsim/node/engine", "old__mypyc", "kvsim/node/gone")
    paths = [tmp_path / f"{name}{suffix}" for name in names]
    source = tmp_path / "kvsim" / "node" / "gone.py"
    for path in (*paths, source):
        path.write_text("")
    remove_others(tmp_path, paths[:2])
    assert [path.exists() for path in (*paths, source)] == [True, True, False, False, True]
