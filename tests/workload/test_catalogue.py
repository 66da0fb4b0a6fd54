"""The catalogue, and fetching from a server of our own: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.catalogue import PublicTrace, catalogue, fetch, find_trace
from kvsim.workload.formats import FORMATS

CONTENT = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46,1,1"


class Handler(BaseHTTPRequestHandler):
    """One good file, one that breaks off, and nothing else."""

    def do_GET(self) -> None:
        if self.path not in ("/good.csv", "/cut.csv"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/good.csv" else CONTENT[:20])

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()


@pytest.fixture
def trace(server: str, monkeypatch: pytest.MonkeyPatch) -> PublicTrace:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return PublicTrace("good", "a trace", f"{server}/good.csv", server, "CC0", sha256, True, 1, "azure", "")


def refused(trace: PublicTrace, target: Path) -> str:
    with pytest.raises(WorkloadError) as caught:
        fetch(trace, target)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_every_entry_is_whole() -> None:
    for name, entry in catalogue().items():
        assert entry.url.startswith("https://") and entry.source.startswith("https://") and entry.licence, name
        assert entry.format in FORMATS and (entry.sha256 is None or len(entry.sha256) == 64)
        assert entry.checked <= (entry.sha256 is not None)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(WorkloadError, match="did you mean 'mooncake-conversation'"):
        find_trace("mooncake-conversatin")


def test_a_good_file_is_fetched_once(trace: PublicTrace, tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    assert fetch(trace, target) == trace.sha256 == fetch(trace, target)
    assert target.read_bytes() == CONTENT and list(tmp_path.iterdir()) == [target]


def test_without_a_known_hash_the_found_one_is_told(trace: PublicTrace, tmp_path: Path) -> None:
    assert fetch(replace(trace, sha256=None), tmp_path / "t.csv") == trace.sha256


def test_nothing_is_left_of_what_is_wrong(trace: PublicTrace, tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    assert "not the file of the catalogue" in refused(replace(trace, sha256="0" * 64), target)
    missing = replace(trace, url=trace.url.replace("good", "none"))
    assert "404" in refused(missing, target)
    assert refused(replace(trace, url=trace.url.replace("good", "cut")), target)
    assert "cannot get" in refused(replace(trace, url="http://127.0.0.1:9/x.csv"), target)
    assert "does not exist" in refused(trace, tmp_path / "no" / "t.csv")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_left_as_it_is(trace: PublicTrace, tmp_path: Path) -> None:
    target = tmp_path / "t.csv"
    target.write_text("mine")
    assert "left as it is" in refused(trace, target)
    assert target.read_text() == "mine"


def test_the_shared_traces_are_those_of_the_catalogue(shared_data: Path) -> None:
    for name, file in (
        ("azure-2023-conversation", "AzureLLMInferenceTrace_conv.csv"),
        ("mooncake-conversation", "mooncake_conversation_trace.jsonl"),
    ):
        assert fetch(find_trace(name), shared_data / "traces" / file) == find_trace(name).sha256
