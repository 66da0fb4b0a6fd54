"""``kvsim serve`` as people start and end it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from installed import as_installed
from places import REPOSITORY

SECRET = "sk-not-to-be-seen"


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, once it listens, and its address."""
    line = [sys.executable, str(REPOSITORY / "main.py"), "serve", "--port", "0", *words]
    environment = as_installed() | {"VLLM_API_KEY": SECRET}
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        url = next(found[0] for text in process.stdout if (found := re.search(r"http://\S+", text)))
        yield process, url
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(tmp_path: Path, ending: signal.Signals) -> None:
    responses = tmp_path / "t.jsonl"
    responses.write_text(json.dumps({"prompt": "hehe", "response": "hahaha!"}), "utf-8")
    words = ("--responses", str(responses), "--max-num-seqs", "4", "--block-size", "8", "--max-model-len", "4096")
    with started(*words) as (process, url):
        headers = {"Authorization": f"Bearer {SECRET}"}
        body = {"model": "any", "prompt": "hehe", "max_tokens": 64}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
            assert client.get("/health").status_code == 200
            assert client.post("/v1/completions", json=body).json()["choices"][0]["text"] == "hahaha!"
        process.send_signal(ending)
        said, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert "engine.block_size = 8 is no multiple of 16" in errors
        assert SECRET not in said + errors


def test_packages_that_are_missing_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('No module named uvicorn')\n")
    found = subprocess.run(
        [sys.executable, str(REPOSITORY / "main.py"), "serve"],
        capture_output=True,
        text=True,
        env=as_installed() | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY)))},
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "kvsim: error: serve: No module named uvicorn; pip install 'kvsim[live]'\n"
