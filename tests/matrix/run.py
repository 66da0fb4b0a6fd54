"""Every trace in every mode, at every scale, with everything that can be switched on: what each run ends with.

    python tests/matrix/run.py [--jobs N] [--only WORD] [--json OUT] [--thin N]

Traces: the shipped samples, those of ``$KVSIM_DATA`` (else ``../shared/data``), odd ones made here. Every run is a
process of its own with bounded memory. Prints the counts and every fault; exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.extend(str(folder) for folder in (Path(__file__).resolve().parent, *Path(__file__).resolve().parents[1:3]))
from processes import ROOT, report, run_all
from traces import written

MODES = {"single": (), "cluster": ("--cluster",), "pd": ("--pd",)}
PRESETS = (None, "smoke", "dev")
TIERED = ("--set", "pd_separation.tiers=[dram,ssd]")
WITH: dict[str, dict[str, tuple[str, ...]]] = {
    "plain": dict.fromkeys(MODES, ("--no-studies",)),
    "studies": dict.fromkeys(MODES, ()),
    "tiers": {
        "single": ("--no-studies", "--policy", "lru", "--set", "cache.write_policy=write_back"),
        "cluster": ("--no-studies", "--set", "cluster.tiers=[eic]"),
        "pd": ("--no-studies", *TIERED),
    },
    "learned": {
        "single": ("--no-studies", "--policy", "learned"),
        "cluster": ("--no-studies", "--policy", "lru,learned"),
        "pd": ("--no-studies", *TIERED, "--set", "policies.eviction=learned"),
    },
    "radix": {
        mode: ("--no-studies", "--set", "cache.prefix_cache=radix", *tiers)
        for mode, tiers in {
            "single": ("--policy", "lru", "--set", "cache.tiers=[]"),
            "cluster": ("--set", "cluster.tiers=[]"),
            "pd": (),
        }.items()
    },
    "priorities": dict.fromkeys(MODES, ("--no-studies", "--set", "engine.scheduling_policy=priority")),
    "asynchronous": dict.fromkeys(MODES, ("--no-studies", "--set", "engine.async_scheduling=true")),
    "static": dict.fromkeys(MODES, ("--no-studies", "--set", "engine.batching=static")),
}
"""What is switched on, by name and mode."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    trace: Path
    mode: str
    preset: str | None
    what: str

    @property
    def name(self) -> str:
        return f"{self.trace.name} {self.mode} {self.preset or 'no preset'} {self.what}"

    def arguments(self) -> list[str]:
        """The command line, less its outputs."""
        preset = () if self.preset is None else ("--preset", self.preset)
        return [*MODES[self.mode], *preset, "--workload-trace", str(self.trace), *WITH[self.what][self.mode]]


def cells(folder: Path) -> Iterator[Cell]:
    """All of them: real traces first."""
    data = Path(os.environ.get("KVSIM_DATA", ROOT.parent / "shared" / "data")) / "traces"
    real = sorted(data.iterdir()) if data.exists() else []
    traces = [*real, *sorted((ROOT / "trace").glob("*_sample.*")), *written(folder).values()]
    for what in WITH:
        for trace in traces:
            for mode in reversed(MODES):
                for preset in PRESETS:
                    yield Cell(trace, mode, preset, what)


def main() -> int:
    """Run the cells that are asked for; 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="cells whose name has all of these words")
    parser.add_argument("--thin", type=int, default=1, help="every Nth cell")
    parser.add_argument("--json", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        every = [cell for cell in cells(folder) if all(word in cell.name for word in asked.only.split())]
        commands = {cell.name: cell.arguments() for cell in every[:: asked.thin]}
        return report(run_all(commands, folder, asked.jobs), asked.json)


if __name__ == "__main__":
    sys.exit(main())
