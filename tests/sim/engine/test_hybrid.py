"""Groups of layers against recordings of vLLM's scheduler, and what comes of each rule that is broken."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from mutants import differs
from places import REPOSITORY

from kvsim.sim.engine import hybrid
from kvsim.validate import replay
from kvsim.validate.recording import Recording, read_recording

FILES = sorted((REPOSITORY / "tests/vllm/hybrid_recordings").glob("*.json.gz"))
"""Made by ``tests/vllm/record_hybrid.py``, whose ``--check`` makes them again."""
MODULES = ("single_blocks", "group_kinds", "groups", "hybrid")
"""Each uses those before it."""
MUTATIONS = {
    "nothing is freed": (
        "hybrid",
        "self._grouped.drop(sequence, computed - in_flight if self._keeps_in_flight else computed)",
        "pass",
    ),
    "steps that run count as computed": (
        "hybrid",
        "self._grouped.drop(sequence, computed - in_flight if",
        "self._grouped.drop(sequence, computed if",
    ),
    "a prompt's last step ahead frees at once": ("hybrid", "before.get(sequence, default)", "default"),
    "a sequence is looked at too late": ("hybrid", "in_flight == self._lag)\n", "True)\n"),
    "admission needs room for all tokens": ("hybrid", "cached, is_capped)", "cached, False)"),
    "the last token may be hit": (
        "hybrid",
        "look_up(sequence.path, sequence.num_tokens - 1) if settings",
        "look_up(sequence.path, sequence.num_tokens) if settings",
    ),
    "the whole sequence must always fit": ("hybrid", "if reserves and", "if"),
    "decoding blocks are hashed before they are known": ("hybrid", " - self.deferred.lag_of(sequence))\n", ")\n"),
    "prompts end anywhere": ("hybrid", "                end = edge", "                pass"),
    "prompts do not stop at their last edge": ("hybrid", "stops = [last]", "stops = []"),
    "prompts do not stop where a state is wanted": ("hybrid", "if start < junction < end and", "if False and"),
    "prompts run past the edge they begin before": ("hybrid", "if start % size:", "if False:"),
    "blocks larger than a step stop prompts": ("hybrid", "if edge > start or size <=", "if True or size <="),
    "a threshold does not count for that": ("hybrid", "(min(most, threshold) if threshold else most)", "most"),
    "the last state is free for all at once": ("hybrid", "self._grouped.refresh(sequence, full_blocks)", "pass"),
    "states can be hit at once": ("groups", "(group, last.key) in self._fresh", "False"),
    "states of steps before are out of reach": ("groups", "self._fresh.clear()", "pass"),
    "free hits cost nothing": ("groups", "needed = self.free_among(hits, known_tokens)", "needed = 0"),
    "hits are taken anew": ("groups", "kind.needed(tokens, is_capped) - had", "kind.needed(tokens, is_capped)"),
    "the longest hit stands": (
        "groups",
        "tokens = len(found[0]) * self._block_size",
        "tokens = max(tokens, len(found[0]) * self._block_size)",
    ),
    "two kinds agree as three do": ("groups", "if is_agreed or self._is_simple:", "if is_agreed:"),
    "three kinds agree as two do": ("groups", "if is_agreed or self._is_simple:", "if True:"),
    "groups take blocks in any order": (
        "groups",
        "in zip(own.rows, self._of_group, strict=True):",
        "in zip(own.rows[::-1], self._of_group[::-1], strict=True):",
    ),
    "blocks are freed head first": ("groups", "for block in reversed(row) if", "for block in row if"),
    "a window's blocks are freed head first": (
        "groups",
        "for block in reversed(row[dropped:end])",
        "for block in row[dropped:end]",
    ),
    "a window is one token too long": (
        "group_kinds",
        "computed_tokens - self.window_tokens + 1",
        "computed_tokens - self.window_tokens",
    ),
    "a window's hit is a block too long": (
        "group_kinds",
        "-(-(self.window_tokens - 1) //",
        "1 - (-(self.window_tokens - 1) //",
    ),
    "a window's hit has holes": ("group_kinds", "row.clear()", "pass"),
    "a short run at the beginning is no hit": (
        "group_kinds",
        "        return _behind(0, backwards)",
        "        return [[] for _ in self.groups]",
    ),
    "chunks look back as windows do": (
        "group_kinds",
        "computed_tokens // self.chunk_tokens * self.chunk_tokens",
        "max(0, computed_tokens - self.chunk_tokens)",
    ),
    "chunks that are over must be found": (
        "group_kinds",
        "first = self.skipped_tokens(most_tokens) // self.block_size",
        "first = 0",
    ),
    "all states are kept": ("group_kinds", "return max(0, computed_tokens - 1)", "return 0"),
    "each block has a state": ("group_kinds", "return min(places, 1)", "return places"),
    "the first state is the hit": (
        "group_kinds",
        "block_size - 1, -1, -1):\n            if self._append(pool, keys[place], last)",
        "block_size):\n            if self._append(pool, keys[place], last)",
    ),
    "the last group's blocks are enough": (
        "group_kinds",
        "block = pool.find(group, key)",
        "block = pool.find(group, key) or pool.find(self.groups[-1], key)",
    ),
    "states grow where nothing is cached": (
        "group_kinds",
        "        return 1\n",
        "        return -(-tokens // self.block_size)\n",
    ),
    "the youngest copy serves": ("single_blocks", "if older is None:", "if True:"),
    "a copy that is evicted leaves none": ("single_blocks", "elif younger is not None:", "elif False:"),
    "freed blocks are the next to go": (
        "single_blocks",
        "tail = last.before\n",
        "tail, last = last, last.after or last\n",
    ),
    "blocks stay in the queue when they are hit": (
        "single_blocks",
        "        if not block.holders:\n            _unlink(block)\n            self.num_free -= 1\n",
        "",
    ),
}


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return [read_recording(file) for file in FILES]


def test_every_step_of_the_recordings_is_reproduced(recordings: list[Recording]) -> None:
    assert len(recordings) == len(FILES) > 5
    for file, recording in zip(FILES, recordings, strict=True):
        assert recording.settings.kv_groups
        assert any(step.held for step in recording.steps), file.name
        assert replay.first_difference(recording) is None, file.name


@pytest.mark.sources
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_broken_rule_is_noticed(recordings: list[Recording], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, right, wrong = MUTATIONS[name]
    break_rule(module, right, wrong, monkeypatch)
    assert any(differs(recording) for recording in recordings), "nothing noticed"


def break_rule(module: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay with one module changed, and the others anew where they use it."""
    folder = Path(str(hybrid.__file__)).parent
    for name in MODULES:
        source = (folder / f"{name}.py").read_text("utf-8")
        if name == module:
            assert source.count(right) == 1, f"the rule has moved: {right}"
            source = source.replace(right, wrong)
        mutant = ModuleType(f"kvsim.sim.engine.{name}")
        monkeypatch.setitem(sys.modules, mutant.__name__, mutant)
        exec(compile(source, name, "exec"), mutant.__dict__)
    for name in ("scheduler_of", "HybridScheduler"):
        monkeypatch.setattr(replay, name, getattr(mutant, name))
    monkeypatch.setattr(replay, "pool_of", mutant.__dict__["GroupedPool"])
