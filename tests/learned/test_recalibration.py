"""Chances corrected by what became of blocks: a correction by hand, nothing without evidence, and what it is for."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from chats import PAUSE_S, chats

from kvsim.cli.learn_scores import hits_from
from kvsim.learned import STEPS, Model, train_on
from kvsim.learned.features import History, Prompt
from kvsim.learned.recalibration import (
    DOUBT_ALL,
    DOUBT_KIND,
    DOUBT_STEP,
    EVERY_S,
    KINDS,
    LATE_STEP,
    MEMORY_S,
    Recalibration,
    kinds_of,
)
from kvsim.learned.stream import Part
from kvsim.policy.eviction import make_eviction, next_uses
from kvsim.policy.eviction.learned import Learned

NUMBERS = count()
SHORT_FIRST = 3
"""The kind of a short first prompt's new blocks."""


def asked(history: History, time_s: float, keys: list[int]) -> Part:
    """One prompt."""
    return Part(keys, history.ask(Prompt(time_s, len(keys)), keys), time_s, next(NUMBERS))


def told_of(recalibration: Recalibration, asked_again: int, of: int = 40, chance: float = 0.5) -> None:
    """Prompts of one block at 0 s, of which some come again at 10 s."""
    history = History()
    for time_s, keys in ((0.0, of), (10.0, asked_again)):
        for key in range(keys):
            recalibration.see(asked(history, time_s, [key]), np.full((1, STEPS), chance))


def test_a_correction_by_hand() -> None:
    """30 of 40 where the model said 0.5: the log odds x go up until 30 - 40 / (1 + exp(-x)) is the pull of the prior.

    x is the sum of three corrections, whose variances add up.
    """
    recalibration = Recalibration()
    told_of(recalibration, 30)
    recalibration.update(15.0)
    x = recalibration.shift[SHORT_FIRST, 0]
    variances = 1 / DOUBT_ALL, 1 / DOUBT_STEP, 1 / DOUBT_KIND
    assert 30 - 40 / (1 + np.exp(-x)) == pytest.approx(x / sum(variances), abs=0.02)
    assert 0.6 < x < np.log(3), "towards 30 of 40, not all the way"
    assert recalibration.shift[SHORT_FIRST, 1] == pytest.approx(x * (variances[0] + variances[2]) / sum(variances))
    assert recalibration.shift[0, LATE_STEP] == pytest.approx(x * variances[0] / sum(variances)), "others share a part"
    corrected = recalibration.corrected(np.full((1, STEPS), 0.5), np.array([SHORT_FIRST]))
    assert corrected[0, 0] == pytest.approx(1 / (1 + np.exp(-x)))


def test_uses_do_not_count_before_the_misses_of_the_same_step() -> None:
    recalibration = Recalibration()
    told_of(recalibration, 30)
    recalibration.update(14.9)
    assert not recalibration.shift.any()
    chances = np.linspace(0.01, 0.99, STEPS)[None]
    assert np.allclose(recalibration.corrected(chances, np.array([0])), chances, rtol=1e-12)


def test_who_is_right_is_not_corrected() -> None:
    recalibration = Recalibration()
    told_of(recalibration, 10, chance=0.25)
    recalibration.update(15.0)
    assert np.max(np.abs(recalibration.shift)) < 1e-9


def test_what_was_seen_long_ago_is_forgotten() -> None:
    recalibration = Recalibration()
    told_of(recalibration, 40, chance=0.9)
    recalibration.update(15.0)
    before = recalibration.shift[SHORT_FIRST, 0]
    recalibration.update(15.0 + 10 * MEMORY_S)
    assert before > 0.3
    assert abs(recalibration.shift[SHORT_FIRST, 0]) < 0.01 * before


def test_a_prompt_that_asks_twice_has_not_come_back() -> None:
    """As one does whose block is moved up to a tier before it is used there."""
    recalibration, history = Recalibration(), History()
    for key in range(40):
        part = asked(history, 0.0, [key])
        recalibration.see(part, np.full((1, STEPS), 0.5))
        recalibration.see(part._replace(time_s=3.0), np.full((1, STEPS), 0.5))
    recalibration.update(18.0)
    assert recalibration.shift[SHORT_FIRST, 0] < -1


def test_answers_are_not_watched() -> None:
    recalibration, history = Recalibration(), History()
    prompt = Prompt(0.0, 2)
    for keys, depth in (([1, 2], 0), ([3, 4], 2)):
        runs = history.ask(prompt, keys, depth)
        recalibration.see(Part(keys, runs, 0.0, 0), np.full((len(runs.blocks), STEPS), 0.5))
    assert sorted(recalibration._watched) == [1, 2]


@pytest.mark.parametrize("restart_s", [-1e6, -1e3, 0.0, 1e7])
def test_a_trace_that_begins_anew_goes_on_and_a_wild_time_breaks_nothing(restart_s: float) -> None:
    recalibration, history = Recalibration(), History()
    for begin_s in (0.0, restart_s, 0.0):
        for place in range(200):
            time_s = begin_s + 10 * place
            recalibration.see(asked(history, time_s, [place % 3]), np.full((1, STEPS), 0.3))
            if recalibration.is_due(time_s):
                recalibration.update(time_s)
    assert np.isfinite(recalibration.shift).all()
    assert recalibration.shift[0, 2] > 0.3, "each comes back after 30 s"


def test_where_time_stands_still_the_oldest_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.learned.recalibration.MOST_WATCHED", 50)
    recalibration, history = Recalibration(), History()
    for key in range(1000):
        recalibration.see(asked(history, 0.0, [key]), np.full((1, STEPS), 0.5))
        recalibration.see(asked(history, 0.0, [key - 30]), np.full((1, STEPS), 0.5))
    assert len(recalibration._watched) <= 100
    recalibration.update(15.0)
    assert np.isfinite(recalibration.shift).all()


def test_it_is_due_now_and_then() -> None:
    recalibration = Recalibration()
    assert recalibration.is_due(0.0)
    recalibration.update(0.0)
    assert [recalibration.is_due(time_s) for time_s in (0.0, EVERY_S - 1, EVERY_S)] == [False, False, True]


def test_kinds() -> None:
    history = History()
    long, short = list(range(30)), [100, 101]
    kinds = [kinds_of(history.ask(Prompt(float(time_s), len(keys)), keys).features).tolist()
             for time_s, keys in enumerate((long, short, [*short, 102, 103]))]  # fmt: skip
    assert kinds == [[2, 2], [3, 3], [0, 1, 1]]
    assert max(kind for each in kinds for kind in each) < KINDS


@pytest.fixture(scope="module")
def model() -> Model:
    return train_on(chats(), 0.6, 0.2).model


def test_it_recovers_hits_where_users_pause_twice_as_long(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = chats(seed=7, pause_s=2 * PAUSE_S)
    uses = next_uses(slow.keys)
    first = 750
    corrected = hits_from(Learned(500, model=model), slow, first, uses)
    lru, belady = (hits_from(make_eviction(name, 500), slow, first, uses) for name in ("lru", "belady"))
    monkeypatch.setattr(Recalibration, "is_due", lambda self, now_s: False)
    uncorrected = hits_from(Learned(500, model=model), slow, first, uses)
    assert corrected - uncorrected > 0.1 * (belady - lru)
    assert corrected > lru
