"""The backend that starts the design's own server here: a fresh one for each engine of a repeat."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvsim.errors import CapacityError, ConfigError
from kvsim.lab.kv.audit import facts_at
from kvsim.lab.kv.backends.client import Client, facts_of, told_facts
from kvsim.lab.kv.backends.url import line_facts, refuse_in_process
from kvsim.lab.kv.phases import Phase, Repeat
from kvsim.lab.kv.points import Point
from kvsim.lab.kv.reading import NamedDesign
from kvsim.lab.kv.rows import Rows
from kvsim.measure import Server
from kvsim.measure.cloud.server import ServerFailedError, running

READY_S = 900.0
"""For weights, compilation and captured graphs."""
HOST = "127.0.0.1"
OLD_ENTRY = "vllm.entrypoints.openai.api_server"
"""Takes the model by a flag, where ``vllm serve`` takes it by its place."""
_KEYS = ("VLLM_API_KEY",)
"""What a server would want of its clients is not passed on to it: it listens to this machine alone."""


class LocalServers:
    """Servers that are started and ended here."""

    name = "local"

    def __init__(self, start: Sequence[str]) -> None:
        """``start``: what stands before the model."""
        self._start = tuple(start)
        self._server: dict[str, object] = {"start": shlex.join(start)}
        self._beyond: list[str] = []
        self._sets = False

    @property
    def server(self) -> Mapping[str, object]:
        return self._server

    @property
    def notes(self) -> Sequence[str]:
        found = ["each engine was a server of its own, started here and ended"]
        if self._sets:
            found.append("'set' of the design says nothing to a real server")
        return [*found, *self._beyond]

    def check(self, asked: NamedDesign, points: Sequence[Point]) -> None:
        """The line has to be one that can be started here."""
        refuse_in_process(asked, "local")
        if not self._start or shutil.which(self._start[0]) is None:
            raise ConfigError(f"--start: there is no program {' '.join(self._start[:1])!r} to start a server by")
        self._sets = bool(asked.design.sets)
        for point in points:
            words_of(point.line, asked.where)
            try:
                facts_at(asked, point)
            except CapacityError:
                continue  # by arithmetic; the server itself is asked

    def run(self, repeat: Repeat, rows: Rows) -> bool:
        """Start a server for each engine; one that does not come up leaves rows that say so."""
        came_up = True
        for phases in repeat.engines:
            try:
                self._served(repeat, phases, rows)
            except ServerFailedError as error:
                rows.add_unstarted(repeat, phases, str(error))
                came_up = False
        return came_up

    def _served(self, repeat: Repeat, phases: Sequence[Phase], rows: Rows) -> None:
        port = free_port()
        url = f"http://{HOST}:{port}"
        command = self.command(repeat.line, port, caching=phases[0].caching)
        environment = {name: value for name, value in os.environ.items() if name not in _KEYS}
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "server.log"
            with running(command, url, log, time.monotonic() + READY_S, environment):
                server = Server(url)
                line = line_facts(Point(number=repeat.point, at=repeat.at, design=repeat.design, line=repeat.line))
                client = Client(server, facts_of(*told_facts(server), line))
                client.phases(repeat, phases, rows)
        self._server |= client.told | {"line": repeat.design.server}
        self._beyond += [note for note in client.notes() if note not in self._beyond]

    def command(self, line: str, port: int, *, caching: bool) -> list[str]:
        """The words that start a server."""
        model, *flags = words_of(line, "server")
        entry = ["--model", model] if OLD_ENTRY in self._start else [model]
        return [
            *self._start,
            *entry,
            *flags,
            "--enable-prefix-caching" if caching else "--no-enable-prefix-caching",
            "--enable-prompt-tokens-details",
            "--host",
            HOST,
            "--port",
            str(port),
        ]


def words_of(line: str, where: str) -> list[str]:
    """The model and the flags behind it. Raises ``ConfigError``."""
    words = shlex.split(line)
    if words[:2] != ["vllm", "serve"] or len(words) < 3 or words[2].startswith("-"):
        raise ConfigError(f"{where}: server: to be started it has to be 'vllm serve MODEL ...'")
    for flag in ("--host", "--port", "--api-key", "--uds", "--ssl-keyfile"):
        if any(word == flag or word.startswith(f"{flag}=") for word in words):
            raise ConfigError(f"{where}: server: {flag} is set where the server is started; leave it out")
    return words[2:]


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port
