"""Commands of the tutorial and what they print. ``python docs/_site/walk.py`` retakes what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorial"
DATA = Path(os.environ.get("KVSIM_DATA", REPOSITORY / "../shared/data"))
BLOCK = re.compile(r"^```console\n\$ (kvsim (?:.*\\\n)*.*)\n((?:.*\n)*?)```$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command of a page, and what the page shows of its output; a line ``...`` stands for what is left out."""

    command: str
    shown: str

    @property
    def needs_data(self) -> bool:
        return "$KVSIM_DATA" in self.command

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Run it from the repository's root, with further flags."""
        environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"KVSIM_DATA": str(DATA)}
        words = self.command.removeprefix("kvsim ")
        line = f'"{sys.executable}" main.py {words} {" ".join(more)}'
        return subprocess.run(
            ["bash", "-c", line], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )


def steps(page: Path) -> list[Step]:
    return [Step(*found) for found in BLOCK.findall(page.read_text("utf-8"))]


def retaken(found: re.Match[str]) -> str:
    done = Step(found[1], found[2]).run()
    if done.returncode:
        raise SystemExit(f"{found[1]}: {done.stderr}")
    printed = re.sub(r"\n{2,}", "\n\n", "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()))
    return f"```console\n$ {found[1]}\n{printed}\n```"


if __name__ == "__main__":
    for path in sorted(TUTORIAL.glob("*.md")):
        path.write_text(BLOCK.sub(retaken, path.read_text("utf-8")), "utf-8")
