"""Schedulers with one rule broken, held against recordings."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from kvsim.validate import replay
from kvsim.validate.recording import Recording


def mutant_of(module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module anew, from its source with one thing changed that stands there once."""
    source = Path(str(module.__file__)).read_text("utf-8")
    assert source.count(right) == 1, f"the rule has moved: {right}"
    mutant = ModuleType("mutant")
    monkeypatch.setitem(sys.modules, "mutant", mutant)
    exec(compile(source.replace(right, wrong), "mutant", "exec"), mutant.__dict__)
    return mutant


def differs(recording: Recording) -> bool:
    """Whether the replay leaves the recording, or gets stuck."""
    try:
        return replay.first_difference(recording) is not None
    except (AssertionError, AttributeError, IndexError, KeyError, ValueError):
        return True
