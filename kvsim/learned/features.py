"""What a server knows of a block when a prompt asks for it: the columns that a model is given.

Nothing here looks ahead: the features of a prompt depend on that prompt and earlier ones alone. A whole prompt is known
when it arrives, so how many of its blocks were seen before is known for each of them; its answer's length is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

RUN_FEATURES = ("depth", "run_blocks", "behind_blocks", "uses", "uses_per_min", "idle_s", "age_s")
"""Features of a run: neighbours in a prompt with the same past, judged as one as they come back or not together.

A prompt's last block is a run of its own: it is often partly filled.
"""
PROMPT_FEATURES = (
    "prompt_blocks",
    "known_blocks",
    "new_blocks",
    "known_share",
    "turn",
    "pause_s",
    "previous_blocks",
    "known_beyond_previous",
    "previous_new_blocks",
    "previous_pause_s",
    "session_age_s",
    "parent_uses",
    "parent_branches",
)
FEATURES = RUN_FEATURES + PROMPT_FEATURES

UNKNOWN = -1.0
"""Times and counts of what was not seen before."""
HISTORY_BLOCKS = 1 << 18
"""Blocks that are remembered, the latest used; of Mooncake's hour that is all 183,000."""
MOST_USES, MOST_BRANCHES, MOST_TURNS, LONGEST_S = 16, 16, 10, 1200.0
"""Counts and ages are cut off here: they would otherwise tell how long the server has been up."""
SETTLING_S = 60.0
"""Added to a block's age before its uses are divided by it: one use just now is no high rate."""


class Runs(NamedTuple):
    """Neighbours in a prompt with the same past, in their order."""

    features: Matrix
    """One row a run; columns are ``FEATURES``."""
    blocks: list[int]
    """How many each run has."""


class Prompt:
    """One prompt that asked, as much of it as has been seen."""

    __slots__ = ("began_s", "blocks", "columns", "known_blocks", "pause_s", "time_s", "turn")

    def __init__(self, time_s: float, blocks: int, session_id: int = -1, turn: int = 0) -> None:
        """``turn`` counts only where the session is known; it is guessed from shared blocks otherwise."""
        self.time_s = time_s
        self.blocks = blocks
        self.turn = turn if session_id >= 0 else -1
        """-1: not known yet."""
        self.began_s = time_s
        """When the first prompt of its session came, as far as shared blocks tell."""
        self.pause_s = UNKNOWN
        """Since the session's previous prompt."""
        self.known_blocks = 0
        """At its head: those that were seen before."""
        self.columns: tuple[float, ...] = ()
        """The prompt's own features."""


class _Seen:
    """What is remembered of a block."""

    __slots__ = ("branches", "first_s", "last_s", "next_key", "prompt", "uses")

    def __init__(self, time_s: float) -> None:
        self.first_s = self.last_s = time_s
        self.uses = 0
        self.prompt: Prompt | None = None
        """Who asked last."""
        self.next_key = -1
        """The block that followed then."""
        self.branches = 0
        """How often it was followed by another block than the time before."""


class History:
    """The blocks that were asked for, the latest ``limit`` of them."""

    def __init__(self, limit: int = HISTORY_BLOCKS) -> None:
        self._limit = limit
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def ask(self, prompt: Prompt, keys: Sequence[int], first_depth: int = 0) -> Runs:
        """Blocks that ``prompt`` asks for, neighbours from ``first_depth`` on: their features; they are remembered.

        A prompt may come in several parts, from its head on.
        """
        if not keys:
            return Runs(np.zeros((0, len(FEATURES)), dtype=np.float32), [])
        if first_depth == 0 or not prompt.columns:
            self._open(prompt, keys, first_depth)
        runs = self._use(prompt, keys, first_depth)
        rows = np.empty((len(runs), len(FEATURES)), dtype=np.float32)
        rows[:, : len(RUN_FEATURES)] = runs
        rows[:, len(RUN_FEATURES) :] = prompt.columns
        while len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return Runs(rows, [int(run[1]) for run in runs])

    def _open(self, prompt: Prompt, keys: Sequence[int], first_depth: int) -> None:
        """Find whom the prompt goes on from, and fill its own features."""
        known = 0
        parent: _Seen | None = None
        for key in keys:
            seen = self._seen.get(key)
            if seen is None:
                break
            known, parent = known + 1, seen
        previous = parent.prompt if parent is not None else None
        known = prompt.known_blocks = first_depth + known if known else 0
        continues = previous is not None and known > 1 and known >= previous.blocks - 2
        if previous is not None and continues:
            prompt.began_s, prompt.pause_s = previous.began_s, prompt.time_s - previous.time_s
        if prompt.turn < 0:
            prompt.turn = previous.turn + 1 if previous is not None and continues else 0
        prompt.columns = (*_own(prompt), *_of_previous(prompt, previous, continues), *_of_parent(parent))

    def _use(self, prompt: Prompt, keys: Sequence[int], first_depth: int) -> list[tuple[float, ...]]:
        """The features of each run by the uses before this one."""
        now, last_depth, table = prompt.time_s, prompt.blocks - 1, self._seen
        begins: list[tuple[int, tuple[float, float, int]]] = []
        past: tuple[float, float, int] | None = None
        before: _Seen | None = None
        for depth, key in enumerate(keys, first_depth):
            seen = table.get(key)
            if seen is None:
                seen = table[key] = _Seen(now)
            else:
                table.move_to_end(key)
            own = (seen.first_s, seen.last_s, seen.uses)
            if own != past or depth == last_depth:
                begins.append((depth, own))
                past = own
            if before is not None and before.next_key != key:
                before.branches += before.next_key >= 0
                before.next_key = key
            seen.uses, seen.last_s, seen.prompt, before = seen.uses + 1, now, prompt, seen
        ends = [depth for depth, _ in begins[1:]] + [first_depth + len(keys)]
        return [_run(depth, end, own, prompt) for (depth, own), end in zip(begins, ends, strict=True)]


def _run(depth: int, end: int, past: tuple[float, float, int], prompt: Prompt) -> tuple[float, ...]:
    first_s, last_s, uses = past
    place = depth, end - depth, prompt.blocks - end
    if not uses:
        return *place, 0, 0.0, UNKNOWN, UNKNOWN
    age_s = prompt.time_s - first_s
    per_min = 60 * uses / (age_s + SETTLING_S)
    return *place, min(uses, MOST_USES), per_min, prompt.time_s - last_s, min(age_s, LONGEST_S)


def _own(prompt: Prompt) -> tuple[float, ...]:
    blocks, known = prompt.blocks, prompt.known_blocks
    return blocks, known, blocks - known, known / blocks if blocks else 0.0, min(prompt.turn, MOST_TURNS)


def _of_previous(prompt: Prompt, previous: Prompt | None, continues: bool) -> tuple[float, ...]:
    """Features of who asked for the deepest known block last."""
    if previous is None:
        return UNKNOWN, 0, 0, UNKNOWN, UNKNOWN, 0
    return (
        min(prompt.time_s - previous.time_s, LONGEST_S),
        previous.blocks,
        prompt.known_blocks - previous.blocks,
        previous.blocks - previous.known_blocks if continues else UNKNOWN,
        previous.pause_s if continues else UNKNOWN,
        min(prompt.time_s - prompt.began_s, LONGEST_S),
    )


def _of_parent(parent: _Seen | None) -> tuple[float, ...]:
    """Features of the deepest known block."""
    if parent is None:
        return 0, 0
    return min(parent.uses, MOST_USES), min(parent.branches, MOST_BRANCHES)
