"""Build hook: compile the inner loop with mypyc where a C compiler is at hand; without one the wheel is pure Python.

The sources stay the only truth: both forms run the same code and give the same results, the compiled one in half the
time. ``KVSIM_PURE=1`` at build time skips compilation, at run time it uses the sources (see ``kvsim/__init__.py``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "kvsim/agenda.py",
    "kvsim/cache/census.py",
    "kvsim/cache/chain.py",
    "kvsim/cache/chunks.py",
    "kvsim/cache/lrutier.py",
    "kvsim/cache/paged.py",
    "kvsim/cache/policytier.py",
    "kvsim/cache/pool.py",
    "kvsim/cache/radix.py",
    "kvsim/cache/radixnode.py",
    "kvsim/cache/table.py",
    "kvsim/cache/tier.py",
    "kvsim/clock.py",
    "kvsim/fabric/jitter.py",
    "kvsim/fabric/maxmin.py",
    "kvsim/fabric/network.py",
    "kvsim/fabric/port.py",
    "kvsim/fabric/topology.py",
    "kvsim/fabric/transfers.py",
    "kvsim/node/backing.py",
    "kvsim/node/batch.py",
    "kvsim/node/engine.py",
    "kvsim/node/growers.py",
    "kvsim/node/margin.py",
    "kvsim/node/scheduler.py",
    "kvsim/node/sequence.py",
    "kvsim/node/settings.py",
    "kvsim/node/step.py",
    "kvsim/node/writes.py",
    "kvsim/policy/eviction/access.py",
    "kvsim/policy/routing/below.py",
    "kvsim/policy/routing/decode.py",
    "kvsim/policy/routing/index.py",
    "kvsim/policy/routing/load.py",
    "kvsim/policy/routing/prefill.py",
    "kvsim/record/conservation.py",
    "kvsim/record/requests.py",
    "kvsim/record/stretches.py",
    "kvsim/steptime/affine.py",
    "kvsim/steptime/base.py",
    "kvsim/steptime/coefficients.py",
    "kvsim/steptime/tables.py",
    "kvsim/system/impatient.py",
    "kvsim/system/misses.py",
    "kvsim/system/pd.py",
    "kvsim/system/serving.py",
    "kvsim/system/tiers.py",
    "kvsim/system/unified.py",
    "kvsim/system/writeback.py",
    "kvsim/workload/request.py",
)


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the extension modules to the wheel, or puts them beside the sources of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("KVSIM_PURE"):
            return
        root = Path(self.root)
        built = fresh_extensions(root)
        if not built:
            with tempfile.TemporaryDirectory() as folder:
                for path in compile_modules(root, Path(folder)):
                    target = root / path.relative_to(folder)
                    shutil.copyfile(path, target)
                    built.append(target)
            if built:
                remove_others(root, built)
        if not built:
            self.app.display_warning("kvsim: no compiled modules (see above); the pure Python ones are used")
            return
        if version != "editable":
            for path in built:
                build_data["force_include"][str(path)] = str(path.relative_to(root))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def fresh_extensions(root: Path) -> list[Path]:
    """The extension modules beside the sources, if they are all there and none is older than its source."""
    suffix = EXTENSION_SUFFIXES[0]
    shared = list(root.glob(f"*__mypyc{suffix}"))
    built = [(root / source).with_suffix(suffix) for source in COMPILED]
    for source, extension in zip(COMPILED, built, strict=True):
        if not extension.exists() or extension.stat().st_mtime < (root / source).stat().st_mtime:
            return []
    return [*shared, *built]


def remove_others(root: Path, built: list[Path]) -> None:
    """Away with this interpreter's extension modules of earlier compilations: one without its source on the list makes
    all count as stale (``kvsim/_compiled.py``)."""
    suffix = EXTENSION_SUFFIXES[0]
    for path in [*root.glob(f"*__mypyc{suffix}"), *(root / "kvsim").rglob(f"*{suffix}")]:
        if path not in built:
            path.unlink()


def compile_modules(root: Path, scratch: Path) -> list[Path]:
    """The extension modules built from ``COMPILED`` in ``scratch``; none when there is no working compiler."""
    shutil.copytree(root / "kvsim", scratch / "kvsim", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    config = scratch / "mypy.ini"
    # The build environment has none of the libraries, so types are inferred here and checked elsewhere.
    config.write_text("[mypy]\nignore_missing_imports = True\nignore_errors = True\n")
    command = [sys.executable, "-m", "mypyc", "--config-file", str(config), *COMPILED]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        print((done.stdout + done.stderr)[-2000:], file=sys.stderr)
        return []
    return [path for path in scratch.rglob("*") if path.suffix in {".so", ".pyd"} and "build" not in path.parts]
