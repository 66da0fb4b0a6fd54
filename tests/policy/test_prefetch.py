"""Prefetch policies: what they name after a prompt."""

from __future__ import annotations

import re

import pytest

from kvsim.errors import ConfigError
from kvsim.policy.eviction import Access
from kvsim.policy.prefetch import PREFETCHERS, Prefetch, PrefetchSettings, make_prefetch

SETTINGS = PrefetchSettings(memory_blocks=100, ahead_blocks=3)


def served(policy: Prefetch, *paths: list[int], session: int = -1) -> list[list[int]]:
    access = Access()
    access.session_id = session
    return [list(policy.after(path, access)) for path in paths]


def test_none() -> None:
    assert served(make_prefetch("none", SETTINGS), [1, 2], session=1) == [[]]


def test_session_names_the_prompt_of_a_session() -> None:
    policy = make_prefetch("session", SETTINGS)
    assert served(policy, [1, 2, 3], session=0) == [[1, 2, 3]]
    assert served(policy, [1, 2, 3]) == [[]]


def test_next_block_names_what_followed() -> None:
    policy = make_prefetch("next_block", SETTINGS)
    assert served(policy, [1, 2, 3, 4, 5, 6], [1, 2], [7, 3], [6], []) == [[], [3, 4, 5], [4, 5, 6], [], []]


def test_next_block_goes_by_the_latest() -> None:
    assert served(make_prefetch("next_block", SETTINGS), [1, 2], [1, 3], [1]) == [[], [], [3]]


def test_next_block_ends_a_circle() -> None:
    assert served(make_prefetch("next_block", SETTINGS), [1, 2], [2, 1]) == [[], [2, 1]]


def test_next_block_remembers_so_much() -> None:
    policy = make_prefetch("next_block", PrefetchSettings(memory_blocks=2, ahead_blocks=9))
    assert served(policy, [1, 2, 3, 4], [1], [2]) == [[], [], [3, 4]]


def test_names() -> None:
    assert {name: policy.name for name, policy in PREFETCHERS.items()} == {name: name for name in PREFETCHERS}


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("nxt_block", SETTINGS, "prefetch: unknown policy 'nxt_block'; did you mean 'next_block'?"),
        ("next_block", PrefetchSettings(0, 1), "allowed: 1 or more of both"),
    ],
)
def test_what_cannot_be_used(name: str, settings: PrefetchSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_prefetch(name, settings)
