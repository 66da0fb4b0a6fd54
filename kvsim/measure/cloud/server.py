"""A server as a process of ours: started, waited for, and ended in every case."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from kvsim.errors import ConfigError

POLL_S = 0.25
ANSWER_S = 5.0
"""For one answer to whether it is well."""
END_S = 15.0
"""From being asked to end to being ended."""
SHOWN_LINES = 3
"""Last lines of a log that a message shows."""
MOST_LINE = 300


class ServerFailedError(ConfigError):
    """A server that ended by itself, or was not ready in time."""


@contextmanager
def running(
    command: Sequence[str], url: str, log: Path, until_s: float, environment: Mapping[str, str] | None = None
) -> Iterator[float]:
    """A server while the block lasts; how many seconds it took to be ready.

    ``until_s``: of ``time.monotonic``. Raises ``ServerFailedError`` with the last it said. Whatever happens, neither it
    nor what it started is left behind.
    """
    began_s = time.monotonic()
    with log.open("ab") as file:
        process = _started(command, file, environment)
        try:
            _wait(process, url, log, until_s)
            yield time.monotonic() - began_s
        finally:
            end(process)


def _started(command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    """In a process group of its own, which is ended as one."""
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )
    except OSError as error:
        raise ServerFailedError(f"{command[0]} cannot be started: {error.strerror}") from None


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end, then make it."""
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        if not _tell(process.pid, signal_):
            break
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _tell(group: int, signal_: signal.Signals) -> bool:
    try:
        os.killpg(group, signal_)
    except ProcessLookupError:
        return False
    return True


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, until_s: float) -> None:
    while not is_well(url):
        if process.poll() is not None:
            raise ServerFailedError(
                f"the server ended with {process.returncode} before it was ready: {last_words(log)}"
            )
        if time.monotonic() >= until_s:
            raise ServerFailedError(f"the server was not ready in time: {last_words(log)}")
        time.sleep(POLL_S)


def is_well(url: str) -> bool:
    """Whether ``/health`` answers 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        connection.request("GET", f"{parts.path}/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def last_words(log: Path) -> str:
    """The end of a log on one line."""
    lines = [line.strip()[:MOST_LINE] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-SHOWN_LINES:]) or "it said nothing"
