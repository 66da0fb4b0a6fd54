"""A server of kvsim's own in another process, for as long as a block runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kvsim.errors import KvsimError

_LISTENING = re.compile(r"listening on (http://\S+)\n")
_PATIENCE_S, _POLL_S, _END_S = 120.0, 0.05, 10.0


@contextmanager
def served(words: Sequence[str]) -> Iterator[str]:
    """The URL of ``kvsim serve WORDS`` on a free port of this machine; it is ended with the block.

    Raises a ``KvsimError`` with the server's own last line where it does not start.
    """
    environment = {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"}
    command = [sys.executable, "-m", "kvsim", "serve", *words, "--host", "127.0.0.1", "--port", "0"]
    with TemporaryDirectory() as folder:
        said, warned = Path(folder) / "said", Path(folder) / "warned"
        with open(said, "w") as out, open(warned, "w") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        try:
            yield _url(process, said, warned)
        finally:
            _end(process)


def _url(process: subprocess.Popen[bytes], said: Path, warned: Path) -> str:
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s:
        found = _LISTENING.search(said.read_text())
        if found is not None:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(_POLL_S)
    lines = warned.read_text().strip().splitlines()
    why = lines[-1].removeprefix("kvsim: error: ") if lines else f"it said nothing in {_PATIENCE_S:g} s"
    raise KvsimError(f"a server of one's own did not start: {why}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
