"""What is left of memory, and the line that says that something would take more."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from kvsim import room
from kvsim.errors import CapacityError


@pytest.fixture
def ten_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_bytes", lambda: 1e10)


def test_there_is_memory_here() -> None:
    assert 1e7 < room.available_bytes() < 1e14


def test_a_limit_on_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (used + 10**9, -1))
    assert room.available_bytes() == pytest.approx(1e9, abs=1e8)


@pytest.mark.parametrize("names", [("memory.max", "memory.current"), None])
def test_a_control_group_s_limit_counts(tmp_path: Path, names) -> None:
    if names is None:
        (tmp_path / "memory").mkdir()
        names = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    (tmp_path / names[0]).write_text("5000\n")
    (tmp_path / names[1]).write_text("2000\n")
    assert room._of_group(tmp_path) == 3000
    (tmp_path / names[0]).write_text("max\n")
    assert room._of_group(tmp_path) == float("inf")


def test_what_does_not_fit_is_one_line(ten_gb: None) -> None:
    room.require(1e10, "a thing")
    message = re.escape("a thing: about 10.1 GB of memory, where 10 are left; smaller")
    with pytest.raises(CapacityError, match=message):
        room.require(1.01e10, "a thing", "smaller")
    assert room.most(1000, 5e9) == 5_000_000
    assert [room.about(count) for count in (12_999, 99, 7.123, 0.0123, 0)] == ["12,000", "99", "7.1", "0.012", "0"]
