"""Compile the inner loop with mypyc: ``python hatch_build.py`` beside the sources, ``KVSIM_COMPILE=1`` into a wheel.

The sources stay the only truth: both forms run the same code and give the same results, the compiled one in half the
time. What is compiled stands in ``kvsim/_compiled.py``. Without ``KVSIM_COMPILE`` a wheel is pure Python, and needs no
compiler.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SUFFIX = EXTENSION_SUFFIXES[0]
SETUP = """
import sys
from concurrent.futures import ThreadPoolExecutor
from setuptools import setup
from setuptools._distutils.ccompiler import CCompiler
from mypyc.build import mypycify

def compile_all(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
                extra_postargs=None, depends=None):
    macros, objects, extra, pre, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    options = self._get_cc_args(pre, debug, extra_preargs)
    def one(name):
        source, kind = build[name]
        self._compile(name, source, kind, options, extra, pre)
    with ThreadPoolExecutor({jobs}) as pool:
        list(pool.map(one, build))
    return objects

CCompiler.compile = compile_all
extensions = mypycify({modules!r}, opt_level="3", multi_file=True)
if sys.platform == "linux":
    for extension in extensions:
        extension.extra_link_args = ["-Wl,-Bsymbolic"]
setup(name="kvsim_compiled", ext_modules=extensions, script_args=["build_ext", "--inplace"])
"""
"""As ``python -m mypyc``, with a C file a module, that many of them compiled at a time. On Linux calls among modules go
straight to each other, not by way of a table in which somebody else's could stand.
"""


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the extension modules to a wheel where ``KVSIM_COMPILE`` is set."""

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling."""
        return ["mypy[mypyc]>=1.15", "setuptools>=77"] if os.environ.get("KVSIM_COMPILE") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or not os.environ.get("KVSIM_COMPILE"):
            return
        root = Path(self.root)
        for path in compile_in_place(root):
            build_data["force_include"][str(path)] = str(path.relative_to(root))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_in_place(root: Path) -> list[Path]:
    """The extension modules beside the sources, built where those there are not fresh, and the file of their digest.

    Raises ``SystemExit`` with the compiler's last words where it fails; what was there before is gone then.
    """
    rules = _rules(root)
    package = root / "kvsim"
    if not rules.is_fresh(package):
        for path in [package / rules.DIGEST, *root.glob(f"*__mypyc{SUFFIX}"), *package.rglob(f"*{SUFFIX}")]:
            path.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            for path in _compiled(root, scratch, rules):
                shutil.copyfile(path, root / path.relative_to(scratch))
            # Of the copy: the sources may have been edited since it was made.
            (package / rules.DIGEST).write_text(f"{rules.digest(scratch / 'kvsim')}\n", "ascii")
    modules = [path.with_suffix(SUFFIX) for path in rules.compiled_sources(package)]
    return [*root.glob(f"*__mypyc{SUFFIX}"), *modules, package / rules.DIGEST]


def _compiled(root: Path, scratch: Path, rules: ModuleType) -> list[Path]:
    shutil.copytree(root / "kvsim", scratch / "kvsim", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    # The build environment has none of the libraries, so types are inferred here and checked elsewhere.
    (scratch / "mypy.ini").write_text("[mypy]\nignore_missing_imports = True\nignore_errors = True\n")
    modules = [str(path.relative_to(root)) for path in rules.compiled_sources(root / "kvsim")]
    jobs = os.cpu_count() or 1
    code = SETUP.format(modules=["--config-file", "mypy.ini", *modules], jobs=jobs)
    (scratch / "setup.py").write_text(code)
    done = subprocess.run([sys.executable, "setup.py"], cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"kvsim was not compiled:\n{(done.stdout + done.stderr)[-3000:]}")
    found = (path for path in scratch.rglob("*") if path.suffix in {".so", ".pyd"})
    return [path for path in found if "build" not in path.relative_to(scratch).parts]


def _rules(root: Path) -> ModuleType:
    """``kvsim/_compiled.py``, without the package around it."""
    spec = importlib.util.spec_from_file_location("kvsim_compiled_rules", root / "kvsim" / "_compiled.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no kvsim/_compiled.py in {root}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    built = compile_in_place(Path(__file__).resolve().parent)
    print(f"{len(built) - 2} compiled modules of kvsim are in place")
