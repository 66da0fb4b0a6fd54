"""Speculative decoding against recordings of vLLM's scheduler, and what comes of each rule that is broken."""

from __future__ import annotations

import pytest
from mutants import differs, mutant_of
from places import REPOSITORY

from kvsim.sim.engine import speculative
from kvsim.validate import replay
from kvsim.validate.recording import Recording, read_recording

FILES = sorted((REPOSITORY / "tests/vllm/recordings").glob("*.json.gz"))
"""Made by ``tests/vllm/recorder.py``; ``tests/vllm/record.py --check`` makes them again."""
MUTATIONS = {
    "no blocks for what is drafted": ("+ self._speculation.lookahead_tokens\n", "\n"),
    "a prompt's first step has no lookahead": ("+ self._admission_lookahead, self", ", self"),
    "drafters take none of the budget": ("slots = self._draft_slots\n", "slots = 0\n"),
    "the last hit is kept": ("if hits and self._speculation.drops_last_hit:", "if False:"),
    "rejected tokens stay computed": ("sequence.computed -= drafts - accepted", "pass"),
    "drafts are hashed": ("min(tokens, sequence.num_tokens) //", "tokens //"),
    "drafts outlive a preemption": ("drafting.placeholders = drafting.in_flight, 0, 0", "_ = drafting.in_flight, 0, 0"),
    "a step too many at the end": ("if placeholders and sequence.computed + 2", "if False and sequence.computed + 2"),
    "a single token is not padded": (
        "if padding:\n                self._padded",
        "if False:\n                self._padded",
    ),
    "rejected blocks are given back": ("return max(0, blocks - sequence.hashed", "return (blocks - sequence.hashed"),
    "the longest length holds back no drafts": ("self.settings.max_model_len - sequence.computed - 1)", "99999)"),
    "outputs are hashed with the next step": ("if sequence in self.running and self.pool", "if False and self.pool"),
    "what a preemption interrupts is lost": ("is_stale = drafting.stale > 0", "is_stale = False"),
    "who is admitted takes nothing for drafting": ("(budget, seats, slots)", "(budget, seats, 0)"),
    "a victim's share for drafting is not given back": ("spent[sequence] = tokens + slots", "spent[sequence] = tokens"),
    "tokens are padded beyond the longest length": ("tokens + num_drafts + 1 <= self", "0 < self"),
    "tokens are left unpadded where budget is short": ("return 1 if 1 + padding <= budget else 0", "return 1"),
    "tokens are padded beside prompts": ("if tokens == 1 and not self._with_prompts and", "if tokens == 1 and"),
    "who is preempted is let in again at once": ("self.kv_ready) and not self.preempted:", "self.kv_ready):"),
    "the token after accepted drafts is lost": ("min(1 + accepted, sequence", "min(max(accepted, 1), sequence"),
    "a step too early at the end": ("sequence.computed + 2 - placeholders", "sequence.computed + 3 - placeholders"),
    "drafts on their way are no tokens": ("placeholders += 1 + drafts", "placeholders += 1"),
    "blocks beyond the longest length": ("min(ahead, self.settings.max_model_len)", "ahead"),
}


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(file) for file in FILES]


def test_every_step_of_the_recordings_is_reproduced(recordings: list[Recording]) -> None:
    assert len(recordings) == len(FILES) > 5
    for file, recording in zip(FILES, recordings, strict=True):
        assert recording.settings.speculation is not None
        assert any(step.drafts for step in recording.steps), file.name
        assert replay.first_difference(recording) is None, file.name


@pytest.mark.sources
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_broken_rule_is_noticed(recordings: list[Recording], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = MUTATIONS[name]
    mutant = mutant_of(speculative, right, wrong, monkeypatch)
    monkeypatch.setattr(replay, "scheduler_of", mutant.scheduler_of)
    monkeypatch.setattr(replay, "SpeculativeScheduler", mutant.SpeculativeScheduler)
    assert any(differs(recording) for recording in recordings), "nothing noticed"
