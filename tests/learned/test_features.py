"""What is known of a block: by hand, one at a time as all at once, and never anything of what comes later."""

from __future__ import annotations

import numpy as np
import pytest
from chats import accesses_of, chats

from kvsim.learned import FEATURES, History, Prompt
from kvsim.learned.examples import asked_by
from kvsim.learned.features import UNKNOWN
from kvsim.learned.stream import PromptStream
from kvsim.learned.train import first_prompts
from kvsim.policy.eviction import Access


def columns(row: np.ndarray, *names: str) -> list[float]:
    return [float(row[FEATURES.index(name)]) for name in names]


def test_by_hand() -> None:
    """A prompt of three blocks, and a second turn that has the first two of them and two more."""
    history = History()
    first = history.ask(Prompt(0.0, 3), [1, 2, 3])
    assert first.blocks == [2, 1]
    names = ("depth", "run_blocks", "behind_blocks", "uses", "idle_s", "known_blocks", "new_blocks", "turn", "pause_s")
    assert columns(first.features[0], *names) == [0, 2, 1, 0, UNKNOWN, 0, 3, 0, UNKNOWN]
    assert columns(first.features[1], *names) == [2, 1, 0, 0, UNKNOWN, 0, 3, 0, UNKNOWN]
    second = history.ask(Prompt(60.0, 4), [1, 2, 4, 5])
    assert second.blocks == [2, 1, 1]
    assert columns(second.features[0], *names) == [0, 2, 2, 1, 60, 2, 2, 1, 60]
    assert columns(second.features[1], *names) == [2, 1, 1, 0, UNKNOWN, 2, 2, 1, 60]
    assert columns(second.features[0], "uses_per_min", "age_s", "session_age_s", "previous_blocks") == [0.5, 60, 60, 3]
    third = history.ask(Prompt(90.0, 2), [1, 9])
    assert columns(third.features[0], "uses", "known_blocks", "turn", "parent_branches") == [2, 1, 0, 0]
    again = history.ask(Prompt(91.0, 3), [1, 2, 7])
    assert columns(again.features[0], "parent_branches", "parent_uses", "known_beyond_previous") == [1, 2, -2]


def test_a_prompt_shorter_than_a_block_whose_answer_fills_it() -> None:
    """It has no whole block of its own, and none of it is known."""
    row = History().ask(Prompt(0.0, 0), [7]).features[0]
    assert columns(row, "depth", "run_blocks", "behind_blocks", "known_share") == [0, 1, -1, 0]


def test_a_known_session_says_the_turn() -> None:
    runs = History().ask(Prompt(0.0, 2, session_id=7, turn=3), [1, 2])
    assert columns(runs.features[0], "turn") == [3]


@pytest.mark.parametrize("counts_prompts", [False, True])
def test_block_by_block_as_all_at_once(counts_prompts: bool) -> None:
    accesses = chats(300, sessions_known=True)
    offline, stream, access, found = asked_by(accesses), PromptStream(), Access(), []
    for number, (start, stop, time_s, session_id, turn) in enumerate(accesses.prompts()):
        access.time_s, access.session_id, access.turn, access.blocks = time_s, session_id, turn, stop - start
        for depth, key in enumerate(accesses.keys[start:stop]):
            access.depth, access.index = depth, number if counts_prompts else start + depth
            found.append(stream.ask(key, access))
    found.append(stream.close())
    parts = [part for part in found if part is not None]
    assert [key for part in parts for key in part.keys] == accesses.keys
    assert np.array_equal(np.concatenate([part.runs.features for part in parts]), offline.features)
    assert stream.num_prompts == 300


def test_a_prompt_in_parts_with_others_between_is_one() -> None:
    """Where time passes, the new blocks of a prompt come when they are written."""
    stream, access = PromptStream(), Access()

    def ask(index: int, depth: int, blocks: int, key: int, time_s: float) -> None:
        access.index, access.depth, access.blocks, access.time_s = index, depth, blocks, time_s
        stream.ask(key, access)

    for depth in range(3):
        ask(0, depth, 3, depth + 1, 0.0)
    for depth in range(2):
        ask(1, depth, 4, depth + 1, 60.0)
    ask(2, 0, 2, 50, 61.0)
    ask(1, 2, 4, 10, 62.0)
    ask(1, 3, 4, 11, 62.0)
    part = stream.close()
    assert part is not None and part.keys == [10, 11]
    assert columns(part.runs.features[0], "depth", "known_blocks", "turn", "pause_s") == [2, 2, 1, 60]
    assert stream.num_prompts == 3


def test_the_past_does_not_know_the_future() -> None:
    one, other = chats(400, seed=1), chats(400, seed=2)
    count = 200
    head, tail = first_prompts(one, count), other
    start_s = head.time_s[-1]
    rows = [
        *((time_s, head.keys[start:stop], -1, 0) for start, stop, time_s, *_ in head.prompts()),
        *((start_s + time_s, tail.keys[start:stop], -1, 0) for start, stop, time_s, *_ in tail.prompts()),
    ]
    mixed, whole = asked_by(accesses_of(rows)), asked_by(one)
    blocks = one.offsets[count]
    runs = int(whole.run[blocks - 1]) + 1
    assert np.array_equal(mixed.features[:runs], whole.features[:runs])
    assert np.array_equal(mixed.run[:blocks], whole.run[:blocks])


def test_the_history_is_bounded() -> None:
    history = History(limit=10)
    for number in range(50):
        history.ask(Prompt(float(number), 3), [0, 2 * number + 1, 2 * number + 2])
        assert len(history) <= 10
    assert history.ask(Prompt(60.0, 1), [0]).features[0][FEATURES.index("uses")] == 16
    assert history.ask(Prompt(61.0, 1), [1]).features[0][FEATURES.index("uses")] == 0
    assert history.ask(Prompt(62.0, 0), []).blocks == []
