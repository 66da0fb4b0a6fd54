"""Policies that look at sessions, on a handful of prompts."""

from __future__ import annotations

from kvsim.policy.eviction import NOBODY, Access, Eviction, make_eviction


class Prompts:
    """Asks for prompts one after the other and notes who goes."""

    def __init__(self, policy: Eviction) -> None:
        self.policy = policy
        self.access = Access()
        self.gone: list[int] = []

    def ask(self, session: int, turn: int, *keys: int) -> None:
        self.access.session_id, self.access.turn, self.access.blocks = session, turn, len(keys)
        for depth, key in enumerate(keys):
            self.access.depth = depth
            if key in self.policy:
                self.policy.hit(key, self.access)
            elif (victim := self.policy.admit(key, self.access)) != NOBODY:
                self.gone.append(victim)
            self.access.index += 1


def test_session_gives_up_whom_it_expects_least() -> None:
    prompts = Prompts(make_eviction("session", 6))
    for single in range(100, 120):
        prompts.ask(single, 0, 10 * single)
    prompts.ask(1, 0, 1, 2)
    prompts.ask(1, 1, 1, 2, 3)
    prompts.gone.clear()
    prompts.ask(200, 0, 2000)
    prompts.ask(201, 0, 2010)
    prompts.ask(202, 0, 2020)
    prompts.ask(203, 0, 2030)
    assert prompts.gone == [1170, 1180, 1190, 2000]
    assert all(key in prompts.policy for key in (1, 2, 3))


def test_session_goes_deepest_block_first_and_whole() -> None:
    prompts = Prompts(make_eviction("session", 5))
    prompts.ask(1, 0, 1, 2, 3)
    prompts.ask(2, 0, 4, 5)
    prompts.ask(3, 0, 6, 7, 8, 9)
    assert prompts.gone == [3, 2, 1, 5]


def test_session_that_comes_back_while_it_leaves_stays() -> None:
    prompts = Prompts(make_eviction("session", 5))
    prompts.ask(1, 0, 1, 2, 3)
    prompts.ask(2, 0, 4, 5)
    prompts.ask(3, 0, 6)
    prompts.ask(1, 1, 1, 2)
    prompts.ask(4, 0, 7)
    assert prompts.gone == [3, 5]


def test_session_keeps_what_sessions_share() -> None:
    prompts = Prompts(make_eviction("session", 4))
    for session in range(1, 6):
        prompts.ask(session, 0, 1, 10 * session, 10 * session + 1)
    assert 1 in prompts.policy and 1 not in prompts.gone


def test_session_without_sessions_is_lru_by_prompts() -> None:
    prompts = Prompts(make_eviction("session", 4))
    prompts.ask(-1, 0, 1, 2)
    prompts.ask(-1, 0, 3, 4)
    prompts.ask(-1, 0, 1, 2)
    prompts.ask(-1, 0, 5, 6, 7)
    assert prompts.gone == [4, 3, 2]


def test_hybrid_takes_a_second_turn_for_a_second_use() -> None:
    conversation = Prompts(make_eviction("hybrid", 4))
    conversation.ask(1, 1, 1, 2)
    conversation.ask(2, 0, 3, 4, 5, 6, 7)
    assert conversation.gone == [3, 4, 5]
    unknown = Prompts(make_eviction("hybrid", 4))
    unknown.ask(-1, 0, 1, 2)
    unknown.ask(-1, 0, 3, 4, 5, 6, 7)
    assert unknown.gone == [1, 2, 3]


def test_session_takes_a_write_that_comes_after_later_accesses() -> None:
    prompts = Prompts(make_eviction("session", 2))
    prompts.ask(1, 0, 1)
    prompts.ask(2, 1, 2)
    prompts.access.index = 0
    prompts.ask(3, 0, 3)
    assert prompts.gone == [2]
