"""Documents of any size: what is kept of lists, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.validate.clients import documents as module
from kvsim.validate.clients.documents import documents, table
from kvsim.workload import jsonstream

REDUCTIONS = {"itls": sum, "": lambda row: row.get("id") if isinstance(row, dict) else None}


def read(path: Path, text: str) -> list[Any]:
    path.write_text(text, encoding="utf-8")
    return list(documents(path, REDUCTIONS))


@pytest.mark.parametrize("whole", [1 << 18, 12], ids=["decoded", "walked"])
def test_large_and_small_values_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    """Where nearly nothing fits a chunk every mapping and list is entered instead."""
    monkeypatch.setattr(module, "_WHOLE", whole)
    monkeypatch.setattr(jsonstream, "_CHUNK_CHARACTERS", whole)
    value = {
        "completed": 2,
        "name": "a longer text than a chunk",
        "itls": [[1, 2], [], [3] * 40],
        "deep": {"list": [0.5, {}]},
    }
    kept = value | {"itls": [3, 0, 120]}
    path = tmp_path / "r.json"
    assert read(path, json.dumps(value)) == [kept]
    assert read(path, json.dumps(value, indent=2)) == [kept]
    assert read(path, f"{json.dumps(value)}\n{json.dumps({'empty': {}})}\n\n[]") == [kept, {"empty": {}}, []]
    assert read(path, json.dumps([{"id": 7, "text": "x" * 100}, 1])) == [[7, None]]


def test_the_line_at_fault_is_named(tmp_path: Path) -> None:
    for text, message in (
        ('{"a": 1}\n{"a": ', "r.json: line 2: not JSON"),
        ("", "r.json: is empty"),
        ("  \n", "r.json: is empty"),
        ("\x00", "r.json: line 1: not JSON"),
        ("[" * 100_000, "r.json: line 1: "),
    ):
        with pytest.raises(ConfigError, match=message) as raised:
            read(tmp_path / "r.json", text)
        assert "\n" not in str(raised.value)


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WHOLE", 16)
    monkeypatch.setattr(jsonstream, "_CHUNK_CHARACTERS", 16)
    monkeypatch.setattr(module, "_LONGEST", 64)
    with pytest.raises(ConfigError, match="a text or an entry of more than"):
        read(tmp_path / "r.json", json.dumps({"a": "x" * 1000}))
    monkeypatch.setattr(module, "MOST_COUNT", 10)
    with pytest.raises(ConfigError, match="ttfts has more than 10 entries"):
        read(tmp_path / "r.json", json.dumps({"ttfts": [0.5] * 11}))
    monkeypatch.setattr(module, "MOST_WHOLE_BYTES", 10)
    (tmp_path / "r.csv").write_text("a,b,c,d,e,f", encoding="utf-8")
    with pytest.raises(ConfigError, match="a csv file may have 0: JSON has no limit"):
        table(tmp_path / "r.csv")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ConfigError, match=r"r\.json: not UTF-8 text"):
        list(documents(tmp_path / "r.json", {}))
