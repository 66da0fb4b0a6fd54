"""The README's sample is what the command prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from installed import as_installed
from places import REPOSITORY


def test_the_sample_output_is_what_the_command_prints(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.search(r"prints this.*?```text\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    environment = as_installed()
    environment.pop("COLUMNS", None)
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "main.py"), "--pd", "--preset", "dev", "--no-plot", "--no-studies"],
        cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    printed = [line.rstrip() for line in done.stdout.strip().splitlines()]
    assert found[1].strip().splitlines() == printed
