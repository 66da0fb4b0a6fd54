"""Clients that go, against recordings of vLLM's scheduler; a rule that is broken is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mutants import differs
from places import REPOSITORY

from kvsim.sim.engine.preemption import PreemptiveScheduler
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.validate import replay
from kvsim.validate.recording import Recording, read_recording

FILES = sorted((REPOSITORY / "tests/vllm/abort_recordings").glob("*.json.gz"))
"""Made by ``tests/vllm/record.py --aborts`` and its likes for groups of layers and pipelines."""


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(file) for file in FILES]


def test_every_step_of_the_recordings_is_reproduced(recordings: list[Recording]) -> None:
    assert len(recordings) == len(FILES) > 5
    for file, recording in zip(FILES, recordings, strict=True):
        assert sum(request.abort_step is not None for request in recording.requests) > 9, file.name
        assert replay.first_difference(recording) is None, file.name


def at_the_next_scheduling(scheduler: PreemptiveScheduler) -> None:
    """Nobody leaves when a step ends."""


def keeps_blocks(scheduler: PreemptiveScheduler) -> None:
    aborted, scheduler.aborted = scheduler.aborted, []
    for sequence in aborted:
        if sequence in scheduler.running:
            scheduler._withdraw(sequence, False, 0)


def caches_nothing(scheduler: PreemptiveScheduler) -> None:
    for sequence in scheduler.aborted:
        sequence.is_incoming = True
    PreemptiveScheduler._drop_aborted(scheduler)


def with_its_last_token(scheduler: Scheduler, sequence: Sequence) -> None:
    if sequence.ending:
        return
    ABORT(scheduler, sequence)


def not_while_it_waits(scheduler: Scheduler, sequence: Sequence) -> None:
    if sequence in scheduler.running:
        ABORT(scheduler, sequence)


ABORT = Scheduler.abort
BROKEN: dict[str, tuple[type, str, Callable[..., None]]] = {
    "nobody leaves before the next scheduling": (PreemptiveScheduler, "end_aborted", at_the_next_scheduling),
    "whoever leaves keeps its blocks": (PreemptiveScheduler, "_drop_aborted", keeps_blocks),
    "whoever is about to end stays": (Scheduler, "abort", with_its_last_token),
    "whoever waits stays": (Scheduler, "abort", not_while_it_waits),
    "what is computed of an answer is not cached": (PreemptiveScheduler, "end_aborted", caches_nothing),
}


@pytest.mark.sources
@pytest.mark.parametrize("name", BROKEN)
def test_every_broken_rule_is_noticed(recordings: list[Recording], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, method, broken = BROKEN[name]
    monkeypatch.setattr(kind, method, broken)
    assert any(differs(recording) for recording in recordings), "nothing noticed"
