"""A server, fuzzed: ``python tests/serve/fuzz.py --minutes 30``.

schemathesis sends what the server's OpenAPI schema allows and what it does not, while other clients come and leave in
the middle of their answers. No answer may be a defect, everything must be accounted for and all blocks free at the end,
and the server's memory must not grow once it is warm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROOT = Path(__file__).parents[2]
WARM_SHARE = 0.3
"""Of the time, after which memory has to stand still."""
MOST_GROWTH_BYTES = 8 * 2**20
SERVER = ("--max-num-seqs", "8", "--block-size", "16", "--max-model-len", "512", "--num-gpu-blocks-override", "129")


def schemathesis(url: str, *options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A run of it against the server at ``url``; ``folder`` is where it may write."""
    line = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS, "--no-color"]
    line += ["--suppress-health-check", "all"]  # which tell of a slow machine
    line += ["--request-timeout", "300"]  # thousands of answers to one prompt take their simulated time
    return subprocess.run([*line, *options], capture_output=True, text=True, cwd=folder, check=False)


def resident_bytes(process_id: int) -> int:
    """Memory of a process."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {process_id} has gone")


async def leave_and_come(host: str, port: int, until_s: float, drawn: random.Random) -> int:
    """Ask for streams, and leave most of them before their end; how many were asked for."""
    asked = 0
    while time.monotonic() < until_s:
        body = {
            "prompt": [drawn.randrange(50)] * drawn.randint(1, 200),
            "max_tokens": drawn.randint(1, 200),
            "stream": drawn.random() < 0.8,
        }
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\nConnection: close"
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + content)
        # A server that is busy is not asked for more than it begins to answer, or lets be.
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), drawn.choice((0.2, 30.0)))
            await asyncio.wait_for(reader.read(), drawn.expovariate(20))
        writer.close()
        await asyncio.sleep(0.2)
        asked += 1
    return asked


async def clients(host: str, port: int, seconds: float, number: int, seed: int) -> int:
    """So many at a time, for so long."""
    until_s = time.monotonic() + seconds
    each = (leave_and_come(host, port, until_s, random.Random(seed + one)) for one in range(number))
    return sum(await asyncio.gather(*each))


def sample(url: str, name: str) -> float:
    """A figure of ``/metrics``, over all its labels."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz for a while; returns 1 where something was wrong, which is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=18_470)
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, str(ROOT / "main.py"), "serve", "--port", str(given.port), "--speed", "2", *SERVER]
    with (given.out / "serve.log").open("w") as log:
        server = subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        return fuzzed(given, server, log_path=given.out / "serve.log")
    finally:
        server.terminate()
        server.wait(30)


def fuzzed(given: argparse.Namespace, server: subprocess.Popen[bytes], log_path: Path) -> int:
    """Fuzz a server that is starting."""
    url, seconds = f"http://127.0.0.1:{given.port}", given.minutes * 60
    for _ in range(600):
        try:
            sample(url, "vllm:num_requests_running")
            break
        except OSError:
            time.sleep(0.2)
    faults: list[str] = []
    sizes: list[tuple[float, int]] = []
    begin_s, round_number = time.monotonic(), 0
    while (spent := time.monotonic() - begin_s) < seconds:
        round_number += 1
        asking = subprocess.Popen(
            [sys.executable, __file__, "--only-clients", str(given.port), str(given.clients), str(round_number), "20"]
        )
        options = ("--phases", "fuzzing", "--max-examples", "25", "--seed", str(given.seed + round_number))
        found = schemathesis(url, *options, folder=given.out)
        asking.wait()
        sizes.append((spent, resident_bytes(server.pid)))
        mib = sizes[-1][1] / 2**20
        print(f"round {round_number}: {spent:.0f} s, {mib:.1f} MiB, schemathesis {found.returncode}", flush=True)
        if found.returncode:
            faults.append((found.stdout + found.stderr)[-4000:])
    time.sleep(2)
    faults += left_over(url)
    warm = [size for at_s, size in sizes if at_s >= WARM_SHARE * seconds]
    if len(warm) > 1 and warm[-1] - warm[0] > MOST_GROWTH_BYTES:
        faults.append(f"memory grew from {warm[0]:,} to {warm[-1]:,} bytes")
    if "Traceback" in log_path.read_text():
        faults.append(f"a traceback in {log_path}")
    print("\n".join(faults) or "no fault")
    return 1 if faults else 0


def left_over(url: str) -> list[str]:
    """What is still held, and who is not accounted for."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    found = [f"{name} is {value}" for name in names if (value := sample(url, name))]
    sent, ended = sample(url, "vllm:request_params_n_count"), sample(url, "vllm:request_success_total")
    print(f"{sent:.0f} requests, all ended: {sent == ended}", flush=True)
    return found if sent == ended else [*found, f"{sent:.0f} requests, of which {ended:.0f} ended"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only-clients"]:
        port, number, seed, seconds = (int(word) for word in sys.argv[2:])
        asyncio.run(clients("127.0.0.1", port, seconds, number, seed))
        sys.exit(0)
    sys.exit(main())
