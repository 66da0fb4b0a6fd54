"""What the workload tests share: where third-party data lies, small files, and the shipped traffic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml
from places import DATA

from kvsim.config.schema import PdTrace
from kvsim.content import content_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party data; the test is skipped where there is none."""
    if not DATA.is_dir():
        pytest.skip(f"third-party data is not at {DATA} (KVSIM_DATA)")
    return DATA


@pytest.fixture
def text_file(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file as given and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def json_lines(text_file: Callable[[str, str], Path]) -> Callable[[Iterable[dict[str, object]]], Path]:
    """Writes rows as JSON lines and returns the path."""
    return lambda rows: text_file("trace.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def traffic() -> Callable[..., PdTrace]:
    """The shipped ``pd_trace`` section, with changes."""
    section = yaml.safe_load(content_path("config.yaml").read_text())["pd_trace"]
    return lambda **changes: PdTrace(**{**section, **changes})
