"""A sweep on processes, on a Dask scheduler and on a Ray cluster with two workers each, which these tests start: the
same bytes, also where drivers and workers are killed.

``make test-distributed`` runs them, in an environment that has both libraries. ``SEED=n`` repeats where they kill.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

psutil = pytest.importorskip("psutil", reason="needs Dask and Ray: make test-distributed")
pytest.importorskip("distributed", reason="needs Dask: make test-distributed")
pytest.importorskip("ray", reason="needs Ray: make test-distributed")

REPOSITORY = Path(__file__).resolve().parents[2]
SWEEP = """
server: vllm serve meta-llama/Llama-3.1-8B-Instruct
gpu: h100
workload: in=200,out=40
requests: 300
keys:
  rate: [4, 8, 16]
  engine.max_num_seqs: [8, 64]
replications: 4
"""
RUNS = 24
POINTS = int(os.environ.get("POINTS", "10"))
PATIENCE_S = 180
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(REPOSITORY),
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine is not a dead node.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "10",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(),
}


class Cluster(NamedTuple):
    """Where a sweep runs, and which of its processes perform runs."""

    flags: tuple[str, ...]
    workers: Callable[[psutil.Process], list[psutil.Process]]


def started(*command: str | Path) -> subprocess.Popen[bytes]:
    """In a session of its own, with all it starts."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stdout=quiet, stderr=quiet)


def ended(process: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in below:
        if child.is_running():
            child.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)


def answers(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def named(processes: list[psutil.Process], *words: str) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if all(word in line for word in words):
            found.append(process)
    return found


@pytest.fixture(scope="module")
def local() -> Cluster:
    def forked(driver: psutil.Process) -> list[psutil.Process]:
        servers = named(driver.children(), "forkserver")
        return [worker for server in servers for worker in server.children()]

    return Cluster(("--processes", "2"), forked)


@pytest.fixture(scope="module")
def dask() -> Iterator[Cluster]:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    python = (sys.executable, "-m")
    scheduler = started(*python, "distributed.cli.dask_scheduler", "--port", str(port), "--dashboard-address", ":0")
    wait_until(lambda: answers(port), "a Dask scheduler")
    nannies = [
        started(*python, "distributed.cli.dask_worker", address, "--nthreads", "1", "--dashboard-address", ":0")
        for _ in range(2)
    ]

    def below(_: psutil.Process) -> list[psutil.Process]:
        children = [child for nanny in nannies for child in psutil.Process(nanny.pid).children()]
        return named(children, "spawn_main")

    yield Cluster(("--executor", "dask", "--address", address), below)
    for process in (*nannies, scheduler):
        ended(process)


def raylets(node: subprocess.Popen[bytes]) -> int:
    assert node.poll() is None, "Ray has not started"
    return len(named(psutil.Process(node.pid).children(), "raylet/raylet"))


@pytest.fixture(scope="module")
def ray() -> Iterator[Cluster]:
    port = free_port()
    ray = (Path(sys.executable).with_name("ray"), "start", "--num-cpus", "1", "--block", "--disable-usage-stats")
    temporary = ("--temp-dir", f"/tmp/kvsim-ray-{os.getpid()}")  # sockets below it have short names
    head = started(*ray, "--head", "--port", str(port), "--include-dashboard", "false", *temporary)
    wait_until(lambda: answers(port), "a Ray head")
    wait_until(lambda: raylets(head) == 1, "the head's raylet")
    other = started(*ray, "--address", f"127.0.0.1:{port}")
    wait_until(lambda: raylets(other) == 1, "another node's raylet")

    def performing(_: psutil.Process) -> list[psutil.Process]:
        both = [psutil.Process(node.pid).children(recursive=True) for node in (head, other)]
        return named([process for each in both for process in each], "ray::perform")

    yield Cluster(("--executor", "ray", "--address", f"127.0.0.1:{port}"), performing)
    for process in (other, head):
        ended(process)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that was run in one process, in one go; its file stands beside it."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "s.yaml").write_text(SWEEP)
    assert driver(folder / "s.yaml", folder / "out", ("--processes", "1")).wait() == 0
    return folder / "out"


def driver(file: Path, out: Path, flags: tuple[str, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, REPOSITORY / "main.py", "sweep", file, "--out", out, "--quiet", *flags]
    return subprocess.Popen(command, env=ENVIRONMENT)


def check_same(out: Path, one: Path) -> None:
    """Every run has one row, and the tables are the same to the byte."""
    first, *lines = (out / "runs.jsonl").read_text().splitlines()
    assert first == (one / "runs.jsonl").read_text().splitlines()[0]
    assert sorted(json.loads(line)["run"] for line in lines) == list(range(RUNS))
    assert sorted(lines) == sorted((one / "runs.jsonl").read_text().splitlines()[1:])
    for name in ("table.csv", "table.parquet"):
        assert (out / name).read_bytes() == (one / name).read_bytes()


def rows_in(out: Path) -> int:
    table = out / "runs.jsonl"
    return max(0, table.read_bytes().count(b"\n") - 1) if table.exists() else 0


@pytest.mark.parametrize("where", ["local", "dask", "ray"])
def test_the_same_bytes_on_every_executor(
    where: str, request: pytest.FixtureRequest, one: Path, tmp_path: Path
) -> None:
    cluster: Cluster = request.getfixturevalue(where)
    assert driver(one.parent / "s.yaml", tmp_path / "out", cluster.flags).wait() == 0
    check_same(tmp_path / "out", one)


@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_a_cluster_that_is_started_for_the_sweep(executor: str, one: Path, tmp_path: Path) -> None:
    flags = ("--executor", executor, "--processes", "2")
    assert driver(one.parent / "s.yaml", tmp_path / "out", flags).wait() == 0
    check_same(tmp_path / "out", one)


@pytest.mark.parametrize("where", ["local", "dask", "ray"])
def test_kills_lose_no_run_and_repeat_none(
    where: str, request: pytest.FixtureRequest, one: Path, tmp_path: Path
) -> None:
    """At random points, ten by default: the driver, which is started again, or a worker."""
    cluster: Cluster = request.getfixturevalue(where)
    seed = int(os.environ.get("SEED", random.randrange(10**9)))
    print(f"SEED={seed}")
    drawn = random.Random(seed)
    for point in range(POINTS):
        out, is_driver = tmp_path / f"{point}", point % 2 == 0
        killed = killed_once(cluster, one.parent / "s.yaml", out, drawn, is_driver=is_driver)
        assert killed or rows_in(out) == RUNS
        check_same(out, one)


def killed_once(cluster: Cluster, file: Path, out: Path, drawn: random.Random, *, is_driver: bool) -> bool:
    """Run to the end, with one kill on the way; returns whether there was still something to kill."""
    process = driver(file, out, cluster.flags)
    rows, pause_s = drawn.randrange(RUNS - 1), drawn.random() * 0.2
    wait_until(lambda: rows_in(out) >= rows or process.poll() is not None, f"{rows} rows")
    time.sleep(pause_s)
    if is_driver:
        process.send_signal(signal.SIGKILL)
        is_dead = process.wait() == -signal.SIGKILL
        assert driver(file, out, cluster.flags).wait() == 0
        return is_dead
    victims: list[psutil.Process] = []

    def found() -> bool:
        victims[:] = [] if process.poll() is not None else cluster.workers(psutil.Process(process.pid))
        return bool(victims) or process.poll() is not None

    wait_until(found, "a worker to kill")
    for victim in victims[:1]:
        victim.kill()
    assert process.wait() == 0
    return bool(victims)


@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_an_address_that_nobody_answers_is_told_within_seconds(executor: str, one: Path, tmp_path: Path) -> None:
    """One where nothing listens, and one where something else does."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        for port in (free_port(), deaf.getsockname()[1]):
            flags = ("--executor", executor, "--address", f"127.0.0.1:{port}")
            began_s = time.monotonic()
            command = [sys.executable, REPOSITORY / "main.py", "sweep", one.parent / "s.yaml", "--out", tmp_path / "o"]
            found = subprocess.run([*command, *flags], env=ENVIRONMENT, capture_output=True, text=True)
            assert found.returncode == 2 and found.stderr.count("\n") == 1 and "--address" in found.stderr
            assert time.monotonic() - began_s < 30 and not (tmp_path / "o").exists()
