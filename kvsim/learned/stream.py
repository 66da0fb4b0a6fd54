"""From single blocks back to prompts: who is asked for one block at a time still judges a prompt's blocks together."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

from kvsim.learned.features import HISTORY_BLOCKS, History, Prompt, Runs

OPEN_PROMPTS = 256
"""Prompts of which further blocks are recognised after others have asked."""


class Question(Protocol):
    """One prompt asks for one of its blocks; see :class:`kvsim.policy.eviction.base.Access`."""

    index: int
    depth: int
    blocks: int
    time_s: float
    session_id: int
    turn: int


class Part(NamedTuple):
    """Neighbouring blocks of one prompt."""

    keys: list[int]
    runs: Runs
    time_s: float
    asker: int
    """The index of the question for the first of them: an equal one is of the same prompt, which may ask again."""


class PromptStream:
    """Collects blocks until their prompt ends, and gives out their features then.

    A prompt is told from the next one by ``index``, which may count prompts or blocks, and by its other fields. Where
    time passes, a prompt's blocks may come in several parts, with others in between.
    """

    def __init__(self, history_blocks: int = HISTORY_BLOCKS) -> None:
        self.history = History(history_blocks)
        self.num_prompts = 0
        self.num_open = 0
        """Blocks collected."""
        self._keys: list[int] = []
        self._first_depth = 0
        self._prompt = Prompt(0.0, 1)
        self._time_s = 0.0
        self._first_index = -1
        """Index of the first access of what is collected."""
        self._who = (-1, 0, 0)
        self._index = self._depth = -2
        self._recent: OrderedDict[tuple[int, tuple[int, int, int]], Prompt] = OrderedDict()

    def ask(self, key: int, question: Question) -> Part | None:
        """Take one block. Returns those before it where it does not follow on them."""
        depth, index = question.depth, question.index
        who = (question.blocks, question.session_id, question.turn)
        steps = depth - self._depth
        is_same = who == self._who and steps > 0 and index - self._index in (0, steps)
        part = None
        if not is_same or steps > 1:
            part = self.close()
            self._first_depth, self._time_s, self._first_index = depth, question.time_s, index
            if not is_same:
                self._prompt = self._found(question, who)
                self._who = who
        self._index, self._depth = index, depth
        self._keys.append(key)
        self.num_open += 1
        return part

    def close(self) -> Part | None:
        """What was collected, with its features; further blocks of its prompt may come."""
        if not self._keys:
            return None
        keys, self._keys, self.num_open = self._keys, [], 0
        runs = self.history.ask(self._prompt, keys, self._first_depth)
        self._first_depth += len(keys)
        return Part(keys, runs, self._time_s, self._first_index)

    def _found(self, question: Question, who: tuple[int, int, int]) -> Prompt:
        """The prompt of a block that does not follow on the one before."""
        known = self._recent.get((question.index, who)) if question.depth else None
        if known is not None:
            return known
        self.num_prompts += 1
        prompt = Prompt(question.time_s, question.blocks, question.session_id, question.turn)
        self._recent[question.index, who] = prompt
        if len(self._recent) > OPEN_PROMPTS:
            self._recent.popitem(last=False)
        return prompt
