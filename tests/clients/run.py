"""Load clients from their own packages against ``kvsim serve``: what each wrote is what the server counted.

``python run.py --environment NAME=FOLDER ...`` with the virtual environments that have them; a client whose environment
is not named is left out. ``--keep FOLDER`` keeps what they wrote, and what was counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizer import make
from tools import MODEL, REQUESTS, TOOLS, Run, Tool

from kvsim.errors import KvsimError
from kvsim.measure.cloud.server import running
from kvsim.measure.metrics import reading_of
from kvsim.measure.result import MetricsReading
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.result import ClientResult

CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT_S = 600
POLL_S = 0.02
SLACK_S = 1.0
"""Between what a client takes for its run's beginning and end, and the first and the last answer."""


@dataclass(frozen=True)
class Counted:
    """What the server counted while a client ran."""

    requests: int
    prompt_tokens: int
    output_tokens: int
    first_s: float
    """When the first answer was over, and the last: of a clock of its own."""
    last_s: float


class Watch:
    """Reads the counters again and again beside a client."""

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self.readings = [self._read()]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _read(self) -> MetricsReading:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=10) as answer:
            return reading_of(answer.read().decode(), time.monotonic())

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            self.readings.append(self._read())

    def counted(self) -> Counted:
        """Since it began, which ends it."""
        self._stop.set()
        self._thread.join()
        self.readings.append(self._read())
        before, after = self.readings[0], self.readings[-1]
        changes = [later.time_s for now, later in zip(self.readings, self.readings[1:], strict=False)
                   if later.finished != now.finished]  # fmt: skip

        def since(name: str) -> int:
            return round(getattr(after, name) - getattr(before, name))

        first_s, last_s = (changes[0], changes[-1]) if changes else (0.0, 0.0)
        return Counted(since("finished"), since("prompt_tokens"), since("generation_tokens"), first_s, last_s)


def main() -> int:
    """0: all that ran agree; 1: some do not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--only", action="append", choices=[tool.name for tool in TOOLS], metavar="CLIENT")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    environments = {name: Path(folder) for name, _, folder in (each.partition("=") for each in given.environment)}
    failed = 0
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (url, tokenizer):
        for tool in TOOLS:
            if given.only and tool.name not in given.only:
                continue
            python = environments.get(tool.environment, Path("nowhere")) / "bin" / "python"
            if not python.exists():
                print(f"{tool.name}: left out, no environment {tool.environment}", flush=True)
                continue
            out = Path(folder) / tool.name
            out.mkdir()
            faults = tried(tool, Run(python.absolute(), url, tokenizer, out, given.requests), given.keep)
            failed += bool(faults)
            print(f"{tool.name}: {'; '.join(faults) or 'as the server counted'}", flush=True)
    return 1 if failed else 0


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Path]]:
    """``kvsim serve`` with the tokenizer that the clients have: its address, and the tokenizer's folder."""
    tokenizer, port = folder / "tokenizer", free_port()
    command = [sys.executable, str(CHECKOUT / "main.py"), "serve", MODEL, "--gpu", "h100-sxm", "--port", str(port),
               "--max-model-len", "8192", "--tokenizer", str(make(tokenizer))]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, url, folder / "server.log", time.monotonic() + 120):
        yield url, tokenizer


def free_port() -> int:
    """One that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def tried(tool: Tool, run: Run, keep: Path | None) -> list[str]:
    """Run a client; what is wrong with what it wrote."""
    watch = Watch(run.url)
    log = run.out.parent / f"{tool.name}.log"
    with log.open("wb") as file:
        done = subprocess.run(
            tool.command(run), stdout=file, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False, cwd=run.out.parent,
            env=os.environ | tool.variables | {"PATH": f"{run.program}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
    counted = watch.counted()
    if keep is not None:
        shutil.copytree(run.out, keep / tool.name, dirs_exist_ok=True)
        (keep / tool.name / "counted.json").write_text(json.dumps(asdict(counted)) + "\n", encoding="utf-8")
    if done.returncode:
        return [f"ended with {done.returncode}", *log.read_text(errors="replace").splitlines()[-20:]]
    if not counted.requests:
        return ["the server answered nothing"]
    faults = [f"{name}: {fault}" for name in ("", tool.result) for fault in differences(run.out / name, counted)]
    checked = subprocess.run(
        [sys.executable, CHECKOUT / "main.py", "validate", "load", run.out / tool.result, "--gpu", "h100-sxm",
         "--model", MODEL],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return faults + ([f"validate load: {checked.stderr.strip()}"] if checked.returncode else [])


def differences(path: Path, counted: Counted) -> Iterator[str]:
    """What a client says of its run against what the server counted."""
    try:
        loads = read_results(path)
    except KvsimError as error:
        yield str(error)
        return
    for name, said, there in (
        ("completed", sum(load.completed for load in loads), counted.requests),
        ("failures", sum(load.failures for load in loads), 0),
        ("prompt tokens", total(loads, "prompt_tokens"), counted.prompt_tokens),
        ("output tokens", total(loads, "output_tokens"), counted.output_tokens),
    ):
        if abs(said - there) > 1e-6 * max(1, there):
            yield f"{name} {said:g}, the server counted {there:g}"
    span_s = sum(load.completed / load.requests_per_s for load in loads)
    answers_s = counted.last_s - counted.first_s
    if not -2 * POLL_S <= span_s - answers_s <= SLACK_S:
        yield f"a run of {span_s:.2f} s, the server's answers ended over {answers_s:.2f} s"
    for load in loads:
        rate = load.output_tokens_per_s
        if rate is not None and abs(rate / load.requests_per_s - load.traffic.output_tokens) > 0.005 * rate:
            yield f"{rate:g} output tokens/s and {load.requests_per_s:g} requests/s of {load.traffic.output_tokens:g}"


def total(loads: tuple[ClientResult, ...], tokens: str) -> float:
    """Tokens of all answered requests."""
    return sum(getattr(load.traffic, tokens) * load.completed for load in loads)


if __name__ == "__main__":
    sys.exit(main())
