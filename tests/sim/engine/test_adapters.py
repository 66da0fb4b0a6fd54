"""LoRA adapters in the scheduler: recordings of vLLM's, broken rules, and leaps against steps."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case, same_both_ways
from mutants import differs, mutant_of
from places import REPOSITORY

from kvsim.plan.plan import ROLES
from kvsim.sim.engine import adapters
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.validate import replay
from kvsim.validate.recording import Recording, read_recording

FILES = sorted((REPOSITORY / "tests/vllm/adapter_recordings").glob("*.json.gz"))
"""Made by ``tests/vllm/record_adapters.py`` with vLLM 0.32 (CPU)."""
MUTATIONS = {
    "adapters of running requests do not count": ("in self.running if not sequence.ending", "in ()"),
    "what a step admits does not count": ("used.add(adapter)", "pass"),
    "who lacks a slot keeps back who comes behind": ("continue\n            tokens =", "break\n            tokens ="),
    "who waits changes places": ("extendleft(reversed(passed))", "extend(passed)"),
    "a slot too many": (">= self._max_loras", "> self._max_loras"),
}


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(file) for file in FILES]


def test_every_step_of_the_recordings_is_reproduced(recordings: list[Recording]) -> None:
    assert len(recordings) == len(FILES) >= 5
    for file, recording in zip(FILES, recordings, strict=True):
        assert recording.settings.max_loras > 0
        assert replay.first_difference(recording) is None, file.name


def test_without_the_limit_every_recording_is_another(recordings: list[Recording]) -> None:
    for recording in recordings:
        free = recording.model_copy(update={"settings": replace(recording.settings, max_loras=0)})
        assert differs(free)


@pytest.mark.sources
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_broken_rule_is_noticed(recordings: list[Recording], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = MUTATIONS[name]
    mutant = mutant_of(adapters, right, wrong, monkeypatch)
    monkeypatch.setattr(replay, "scheduler_of", mutant.AdapterScheduler)
    assert any(differs(recording) for recording in recordings), "nothing noticed"


def test_leaps_end_as_steps_do() -> None:
    """Random systems whose engines have fewer slots than there are adapters."""
    seen = {"preemption": False, "hit": False, "fewer events": False}
    for seed in range(120):
        rng = Random(seed)
        found, requests = random_case(rng)
        slots = rng.choice([1, 2, 3])
        adapter = np.array([rng.randrange(5) for _ in range(len(requests))], dtype=np.int32)
        own = found.with_settings(*ROLES, max_loras=slots)
        happened = same_both_ways(UnifiedSystem, own, replace(requests, adapter=adapter))
        seen = {name: known or happened[name] for name, known in seen.items()}
    assert all(seen.values()), seen
