"""Many runs of the command line, each a process of its own with bounded time and memory, and what they ended with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from verdict import verdict

ROOT = Path(__file__).resolve().parents[2]
MOST_CPU_S, MOST_BYTES = 120, 6 * 2**30
"""Of one run: more is a fault."""


@dataclass(frozen=True)
class Ended:
    """What a run ended with."""

    name: str
    how: str
    faults: list[str]
    said: str
    """The last line of stderr."""
    cpu_s: float
    wall_s: float


def run_all(commands: Mapping[str, Sequence[str]], folder: Path, jobs: int) -> list[Ended]:
    """``kvsim`` with each of these arguments, by name; every fault is printed as it is found."""
    ended = []
    with ThreadPoolExecutor(jobs) as pool:
        for one in pool.map(lambda item: run(item[0], item[1], folder), commands.items()):
            ended.append(one)
            if one.faults:
                print(f"{one.name}: {'; '.join(one.faults)} | {one.said[:200]}", flush=True)
    return ended


def run(name: str, arguments: Sequence[str], folder: Path) -> Ended:
    """One of them."""
    own = Path(tempfile.mkdtemp(dir=folder))
    files = (own / "r.json", own / "r.csv")
    outputs = ("--report-json", files[0], "--report-csv", files[1], "--no-plot", "--quiet", "--out", own)
    command = [sys.executable, "-W", "always", str(ROOT / "main.py"), *arguments, *map(str, outputs)]
    before_s = time.monotonic()
    with open(own / "out", "wb") as out, open(own / "err", "wb") as err:
        child = subprocess.Popen(command, cwd=own, stdout=out, stderr=err, preexec_fn=_bounded)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    said = (own / "err").read_text(errors="replace")
    how, faults = verdict(child.returncode, said, *files)
    lines = [line for line in said.splitlines() if line.strip()]
    cpu_s = used.ru_utime + used.ru_stime
    return Ended(name, how, faults, lines[-1] if lines else "", cpu_s, time.monotonic() - before_s)


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def report(ended: Sequence[Ended], path: Path | None) -> int:
    """Print the counts, and what was refused how often; 1 where there is a fault."""
    counts = Counter(one.how for one in ended if not one.faults)
    slowest = max(ended, key=lambda one: one.cpu_s)
    print(f"{len(ended)} runs: {dict(counts)}, {sum(bool(one.faults) for one in ended)} with faults")
    print(f"CPU: {sum(one.cpu_s for one in ended):,.0f} s, the slowest {slowest.cpu_s:.1f} s ({slowest.name})")
    for said, number in Counter(one.said for one in ended if one.how == "refused").most_common(30):
        print(f"{number:5} x {said[:160]}")
    if path is not None:
        path.write_text(json.dumps([asdict(one) for one in ended], indent=1))
    return int(any(one.faults for one in ended))
