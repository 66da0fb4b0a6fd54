"""The learned policy: better than LRU where reuse can be foretold, sound elsewhere, and what it does on Mooncake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chats import ALONE_BLOCKS, accesses_of, chats
from places import DATA

from kvsim.cli.learn_scores import hits_from, prompts_from, scored
from kvsim.errors import ConfigError, WorkloadError
from kvsim.learned import STEPS, Model, train_on
from kvsim.learned.features import Matrix
from kvsim.learned.gittins import Floats
from kvsim.learned.ranking import Ranking
from kvsim.learned.stream import PromptStream
from kvsim.policy.eviction import Access, make_eviction, next_uses
from kvsim.policy.eviction.learned import Learned
from kvsim.policy.eviction.learned_online import LearnedOnline
from kvsim.policy.eviction.replay import replay
from kvsim.workload.accesses import Accesses, read_accesses

MOONCAKE = DATA / "traces/mooncake_conversation_trace.jsonl"


@pytest.fixture(scope="module")
def model() -> Model:
    return train_on(chats(), 0.6, 0.2).model


@pytest.mark.parametrize("sessions_known", [False, True])
def test_it_beats_lru_where_reuse_can_be_foretold(model: Model, sessions_known: bool) -> None:
    other = chats(seed=7, sessions_known=sessions_known)
    score = scored(other, 500, 250, lambda size: Learned(size, model=model))
    assert score.gap_closed is not None and score.gap_closed > 0.5
    assert score.learned <= score.belady
    assert score.learned > score.classic


def test_it_learns_while_it_runs() -> None:
    whole = chats()
    uses = next_uses(whole.keys)
    online = LearnedOnline(250, warmup_prompts=700)
    lru, learned = hits_from(make_eviction("lru", 250), whole, 0, uses), hits_from(online, whole, 0, uses)
    belady = hits_from(make_eviction("belady", 250), whole, 0, uses)
    assert learned - lru > 0.2 * (belady - lru)
    never = LearnedOnline(250, warmup_prompts=10_000)
    assert abs(hits_from(never, whole, 0, uses) - lru) < 0.02 * lru


def test_a_warm_up_too_short() -> None:
    with pytest.raises(WorkloadError, match="too short to learn from: 5 prompts give"):
        replay(LearnedOnline(250, warmup_prompts=5), chats(20))


def test_it_replays_alike_twice(model: Model) -> None:
    trace = chats(600, seed=3)
    first, second = (replay(Learned(100, seed, model=model), trace) for seed in (0, 1))
    assert first == second


def test_prompts_longer_than_the_cache(model: Model) -> None:
    policy = Learned(ALONE_BLOCKS // 2, model=model)
    replay(policy, chats(200))
    assert len(policy) == ALONE_BLOCKS // 2


def test_what_is_discarded_while_its_prompt_is_open_stays_away(model: Model) -> None:
    policy, access = Learned(40, model=model), Access()
    access.blocks = 3
    for depth in range(3):
        access.index = access.depth = depth
        policy.admit(10 + depth, access)
    policy.discard(11)
    assert 11 not in policy and len(policy) == 2
    access.index, access.depth, access.blocks = 3, 0, 1
    policy.admit(11, access)
    assert len(policy) == 3


class Dear:
    """A model that takes everything for dear."""

    def chances(self, features: Matrix) -> Floats:
        return np.full((len(features), STEPS), 0.5)


def test_what_a_model_was_trained_on_does_not_correct_it() -> None:
    ranking, stream, access, parts = Ranking(None, 50), PromptStream(), Access(), []
    for number in range(20):
        access.index, access.time_s = number, 100.0 * number
        stream.ask(number % 10, access)
        if number < 10:
            ranking.add(number)
        part = stream.close()
        assert part is not None
        parts.append(part)
        ranking.judge(part)
    ranking.learned(Dear(), parts)  # type: ignore[arg-type]
    assert ranking.pop(2000.0) == 0
    assert not ranking._recalibration.shift.any()
    assert not ranking._recalibration._watched


def test_blocks_beyond_the_last_age_go_first_longest_idle_before_all() -> None:
    ranking, stream, access = Ranking(Dear(), 9), PromptStream(), Access()  # type: ignore[arg-type]
    for key, time_s in ((1, 100.0), (2, 0.0), (3, 1900.0)):
        access.index, access.time_s = key, time_s
        stream.ask(key, access)
        ranking.add(key)
        part = stream.close()
        assert part is not None
        ranking.judge(part)
    assert [ranking.pop(2000.0) for _ in range(3)] == [2, 1, 3]


def test_scores_of_a_cold_cache_forget_what_was_before(model: Model) -> None:
    trace = chats(600, seed=5)
    rows = [
        (time_s - trace.time_s[300], trace.keys[start:stop], -1, 0)
        for start, stop, time_s, *_ in list(trace.prompts())[300:]
    ]
    cold = scored(trace, 300, 100, lambda size: Learned(size, model=model), cold=True)
    alone = scored(accesses_of(rows), 0, 100, lambda size: Learned(size, model=model))
    assert (cold.lru, cold.belady, cold.accesses) == (alone.lru, alone.belady, alone.accesses)
    assert cold.learned == pytest.approx(alone.learned, rel=0.05)


def test_from_a_file(model: Model, tmp_path: Path) -> None:
    model.write(tmp_path / "m.txt")
    trace = chats(300)
    read = Learned.from_file(100, tmp_path / "m.txt")
    assert replay(read, trace) == replay(Learned(100, model=model), trace)
    with pytest.raises(ConfigError, match="No such file"):
        Learned.from_file(100, tmp_path / "none.txt")


@pytest.fixture(scope="module")
def mooncake() -> Accesses:
    if not MOONCAKE.is_file():
        pytest.skip(f"no Mooncake trace at {MOONCAKE}; KVSIM_DATA names the folder")
    return read_accesses(MOONCAKE)


def test_the_shipped_model_on_what_it_has_not_seen_of_mooncake(mooncake: Accesses) -> None:
    """The last 30%, from empty caches, which takes a third of the time; the card has warm ones and other sizes."""
    unseen = prompts_from(mooncake, int(len(mooncake.time_s) * 0.7))
    uses = next_uses(unseen.keys)
    policies = make_eviction("lru", 5000), make_eviction("belady", 5000), Learned(5000)
    lru, belady, learned = (hits_from(policy, unseen, 0, uses) for policy in policies)
    assert len(unseen.keys) == 82_346
    assert (learned - lru) / (belady - lru) >= 0.3
