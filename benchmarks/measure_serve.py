"""``kvsim measure`` against ``kvsim serve``: how far the times that the client read are from those that were simulated.

The server, in a process of its own, writes down what was simulated of every request; each is held against its row.
``python benchmarks/measure_serve.py [RATE:REQUESTS ...] [--streams N]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import numpy as np

from kvsim.measure import MeasuredRun, Sending, measure, server_of
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload

PORT = 18532
LINE = (
    "meta-llama/Llama-3.2-1B-Instruct",
    "--gpu",
    "h100-sxm",
    "--max-num-seqs",
    "4096",
    "--enable-prompt-tokens-details",
)
WORD = "in=100-600,out=10-60,prefix=60:10"


def serve(facts: str, arguments: list[str]) -> int:
    """``kvsim serve`` that writes what was simulated of each request."""
    from kvsim.cli import main
    from kvsim.serve.metrics import Metrics

    plain = Metrics.finished
    with open(facts, "w") as file:

        def finished(self, stream, found):  # type: ignore[no-untyped-def]
            plain(self, stream, found)
            figures = (found.arrival_s, found.prompt_tokens, found.output_tokens, found.ttft_s, found.e2e_s)
            file.write(json.dumps([*figures, found.cached_tokens]) + "\n")
            file.flush()

        Metrics.finished = finished  # type: ignore[method-assign]
        return main(["serve", *arguments])


@contextmanager
def serving() -> Iterator[Path]:
    """The file that facts are written to while the server runs."""
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder) / "facts"
        command = [sys.executable, __file__, "--serve", str(facts), *LINE, "--port", str(PORT)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(240):
                sleep(0.25)
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health").close()
                    break
                except OSError:
                    continue
            yield facts
        finally:
            process.terminate()
            process.wait(20)


def measured(workload: Workload, **sending: object) -> tuple[MeasuredRun, list[list[float]]]:
    """What the client read, and what was simulated of each request that it sent."""
    with serving() as path:
        run = measure(server_of(f"http://127.0.0.1:{PORT}"), workload, Sending(**sending))  # type: ignore[arg-type]
        sleep(0.5)
        facts = [json.loads(line) for line in path.read_text().splitlines()]
    return run, facts[1:]


def differences_s(run: MeasuredRun, facts: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """TTFT and E2E as read, minus as simulated. Those of equal lengths are matched in their order."""
    known = defaultdict(list)
    for fact in sorted(facts):
        known[fact[1], fact[2]].append(fact)
    ttft, e2e = [], []
    for row in run.answered:
        fact = known[row.prompt_tokens, row.output_tokens].pop(0)
        assert row.ttft_s is not None and row.e2e_s is not None
        ttft.append(row.ttft_s - fact[3])
        e2e.append(row.e2e_s - fact[4])
    assert not any(known.values())
    return np.array(ttft), np.array(e2e)


def told(name: str, run: MeasuredRun, facts: list[list[float]]) -> str:
    client, failures = run.client, run.failures
    assert client is not None
    figures = []
    for what, late_s in zip(("TTFT", "E2E"), differences_s(run, facts), strict=True):
        p50, p99 = np.percentile(np.abs(late_s), (50, 99)) * 1e3
        figures.append(f"{what} off by {p50:.2f} ms, p99 {p99:.2f}, bias {late_s.mean() * 1e3:+.2f}")
    lags = (
        f"lag p99 {client.lag_p99_s * 1e3:.2f} ms, loop {client.loop_lag_p99_s * 1e3:.2f}, {client.cpu_share:.0%} CPU"
    )
    state = "saturated" if client.saturated else "not saturated"
    sent = f"{len(run.rows):,} requests, {failures or 'no failure'}, up to {client.most_in_flight:,} in flight"
    return f"{name}: {sent}; {'; '.join(figures)}; {lags}, {state}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("loads", nargs="*", default=["10:100", "50:500", "200:2000"])
    parser.add_argument("--streams", type=int)
    given = parser.parse_args()
    for load in given.loads:
        rate, _, requests = load.partition(":")
        workload = word_of(WORD).generate(int(requests), float(rate), 7)
        print(told(f"{rate} requests/s", *measured(workload)), flush=True)
    if given.streams:
        workload = word_of("in=20-30,out=60").users(given.streams, 2 * given.streams, 7)
        print(told(f"{given.streams:,} streams", *measured(workload)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve(sys.argv[2], sys.argv[3:]) if sys.argv[1:2] == ["--serve"] else main())
