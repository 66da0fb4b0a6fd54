"""SGLang's scheduler and tree, against recordings of SGLang's own classes; a rule that is broken is noticed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from mutants import mutant_of
from places import REPOSITORY
from sglang_replay import first_difference, read

from kvsim.policy.scheduling import lpm
from kvsim.sim.engine import (
    answer_forecast,
    hybrid,
    new_token_ratio,
    pools,
    prefill_budget,
    radix,
    sglang,
    sglang_queue,
    sglang_running,
)

pytestmark = pytest.mark.sources
FILES = sorted((REPOSITORY / "tests/sglang/recordings").glob("*.json.gz"))
"""Made by ``tests/sglang/record.py`` with SGLang 0.5.23."""


class Mutation(NamedTuple):
    module: ModuleType
    right: str
    wrong: str


MUTATIONS = {
    "what a split leaves below is as old as it was": Mutation(
        radix, "self._touch(upper)\n        self._touch(node)\n", "self._touch(upper)\n"
    ),
    "an answer goes with its prompt": Mutation(radix, "if 0 < prompt_blocks < full_blocks:", "if False:"),
    "what is looked up is not touched": Mutation(
        radix, "            self._touch(node)\n        return node, hits", "        return node, hits"
    ),
    "what another has computed is not freed": Mutation(radix, "duplicates = known - table.hashed", "duplicates = 0"),
    "what an insertion passes is not touched": Mutation(
        radix,
        "            self._touch(node)\n            if found < node.size:\n",
        "            if found < node.size:\n",
    ),
    "no room is made for a page more": Mutation(
        sglang, "total if page == 1 else -(-(total + len(batch) * page) // page)", "blocks"
    ),
    "answers evict for what they need alone": Mutation(sglang, "if self._block_size > 1:", "if False:"),
    "whoever has most is retracted": Mutation(sglang, "sequence = order.pop()", "sequence = order.pop(0)"),
    "of equals the shortest prompt is retracted": Mutation(
        sglang, "self._unknown(sequence), -sequence.state", "self._unknown(sequence), sequence.state"
    ),
    "a retraction makes no room ahead": Mutation(
        sglang, "self._tree.make_room(-(-len(order) * RETRACT_STEPS // self._block_size))", "pass"
    ),
    "those that go on keep their order": Mutation(sglang, "self._put_in_order(order)", "pass"),
    "who is retracted waits in front": Mutation(
        sglang,
        "self.preempted.append(sequence)\n        self.waiting.append",
        "self.preempted.append(sequence)\n        self.waiting.appendleft",
    ),
    "a full batch is tried again": Mutation(sglang, "if self._has_left or not self.running:", "if True:"),
    "hits that nobody holds count as free": Mutation(
        sglang, "budget.room_tokens - unheld_tokens", "budget.room_tokens"
    ),
    "the last token may be hit": Mutation(sglang, "(sequence.num_tokens - 1) // page", "sequence.num_tokens // page"),
    "no page is kept free": Mutation(sglang, "tokens + longest + page >=", "tokens + longest >="),
    "an answer that has begun counts whole": Mutation(
        sglang, "longest = max(min(self._unknown(sequence), MOST_NEW_TOKENS), 0)", "longest = self._most(sequence)"
    ),
    "answers of known length sink": Mutation(
        sglang, "1.0 if sglang.ignore_eos else self._ratio.current", "self._ratio.current"
    ),
    "answers beside prompts take no budget": Mutation(sglang, "mixed = len(self.running) if", "mixed = 0 if"),
    "an idle engine keeps its ratio": Mutation(sglang, "self._ratio.reset()", "pass"),
    "ends are not waited for": Mutation(
        sglang, "if not self._fits():\n            if is_ending:", "if not self._fits():\n            if False:"
    ),
    "a chunk enters the tree at its prompt's end": Mutation(
        sglang, "if self._chunked is not None:\n            self._publish", "if False:\n            self._publish"
    ),
    "tokens on their way are known": Mutation(
        sglang_running, "return 1 if self.settings.async", "return 0 if self.settings.async"
    ),
    "prompts join behind those beside them": Mutation(
        sglang_running, "        if self._is_mixed:\n            self._low", "        if False:\n            self._low"
    ),
    "answers do not enter the tree": Mutation(sglang_running, "self._publish(sequence, sequence.computed)", "pass"),
    "the first batch leaves a full one full": Mutation(
        sglang_running, "self._has_left = self._has_left or not self.running", "pass"
    ),
    "chunks end anywhere": Mutation(
        prefill_budget, "max(self.chunk_tokens // self._page * self._page, 0)", "max(self.chunk_tokens, 0)"
    ),
    "no page is reserved": Mutation(
        prefill_budget,
        "self.total_tokens += paged + self._page + new_tokens",
        "self.total_tokens += paged + new_tokens",
    ),
    "prompts have no limit in all": Mutation(prefill_budget, "self.input_tokens -= paged", "pass"),
    "the first prompt has a limit": Mutation(prefill_budget, "not is_first and paged >=", "paged >="),
    "chunks are charged by the token": Mutation(
        prefill_budget, "self.chunk_tokens -= paged", "self.chunk_tokens -= tokens"
    ),
    "the ratio does not sink": Mutation(
        new_token_ratio, "self.current = max(self.current - self._decay, self._least)", "return"
    ),
    "the ratio rises by what is known alone": Mutation(
        new_token_ratio, "(known_tokens + RETRACT_STEPS * sequences)", "known_tokens"
    ),
    "prefixes of those that wait are touched each time": Mutation(sglang_queue, "% REFRESH_PASSES == 0", "% 1 == 0"),
    "prefixes of those that wait are not touched": Mutation(sglang_queue, "% REFRESH_PASSES == 0", "< 0"),
    "the first that waits is touched first": Mutation(
        sglang_queue, "reversed(queue[:MOST_WAITING])", "queue[:MOST_WAITING]"
    ),
    "of equal branches the youngest is first": Mutation(
        sglang_queue, "return entry[0], entry[1]", "return entry[0], -entry[1]"
    ),
    "the shortest answer is first": Mutation(sglang_queue, "return -sequence.state", "return sequence.state"),
    "who waits for another's prefix keeps its place": Mutation(
        lpm, "0 if late[place] else -1 - known[place]", "-1 - known[place]"
    ),
    "short prefixes are waited for": Mutation(lpm, "FEW_TOKENS = 32", "FEW_TOKENS = 8"),
    "an end frees nothing": Mutation(answer_forecast, "free_tokens += held", "pass"),
}


def test_who_ends_after_all_others_stands_before_the_last_of_them() -> None:
    """Each frees what it holds at its end: where it stands decides what is free for those behind it."""
    forecast = answer_forecast.AnswerForecast()
    assert forecast.is_empty
    forecast.begin([(9, 10), (3, 20), (0, 5)])
    assert not forecast.is_empty
    assert [forecast.fits(free) for free in (8, 9)] == [False, True]  # 2 of 3 tokens each, one spare each: 9 - 6 > 2
    forecast.add((12, 40))
    forecast.add((0, 7))
    # In the order 3, 12, 9: 3 x 3 of 13, then 2 x 12 of 13 + 20, then 9 of 73.
    assert [forecast.fits(free) for free in (12, 13)] == [False, True]
    forecast.add((2, 1))
    assert [forecast.fits(free) for free in (12, 13)] == [False, True]  # 2 x 4 of 13 leave one for each
    forecast.clear()
    assert forecast.is_empty and forecast.fits(0)


def put_in(module: ModuleType, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """Let engines run with ``module`` changed."""
    mutant = mutant_of(module, right, wrong, monkeypatch)
    monkeypatch.setitem(sys.modules, module.__name__, mutant)
    if module is lpm:
        monkeypatch.setattr(sglang_queue, "longest_prefix", mutant.longest_prefix)
    if module is radix:
        monkeypatch.setattr(pools, "RadixPool", mutant.RadixPool)
        monkeypatch.setattr(hybrid, "RadixPool", mutant.RadixPool)
    scheduler = mutant
    if module is not sglang:
        scheduler = ModuleType("sglang_anew")
        exec(compile(Path(str(sglang.__file__)).read_text("utf-8"), "sglang_anew", "exec"), scheduler.__dict__)
    monkeypatch.setattr(hybrid, "SglangScheduler", scheduler.SglangScheduler)


def differs(file: Path) -> bool:
    """Whether a replay leaves the recording, or gets stuck."""
    try:
        return first_difference(read(file)) is not None
    except (AssertionError, AttributeError, IndexError, KeyError, ValueError):
        return True


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".json.gz"))
def test_every_step_is_sglang_s(file: Path) -> None:
    assert first_difference(read(file)) is None


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_broken_rule_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, right, wrong = MUTATIONS[what]
    put_in(module, monkeypatch, right, wrong)
    assert any(differs(file) for file in FILES), what
