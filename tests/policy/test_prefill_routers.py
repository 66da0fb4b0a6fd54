"""Each prefill router's choice, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.policy.routing import PREFILL_ROUTERS, LoadHeap, PrefixIndex, prefill_router
from kvsim.policy.routing.index import Path
from kvsim.policy.routing.prefill import Affinity, PrefillRouter

END = 1 << 60
SHARED: Path = ((0, 0, END),)
OWN: Path = ((-1, 0, END),)


def router(name: str, loads: LoadHeap, index: PrefixIndex | None = None, **changes: object) -> PrefillRouter:
    options: dict[str, object] = {
        "backlog_tokens": [0.0] * len(loads.loads),
        "index": index or PrefixIndex(),
        "block_size": 16,
        "guard": 2.0,
        "slack": 1.0,
        "num_candidates": 4,
        "generator": np.random.default_rng(0),
    }
    return prefill_router(name, loads=loads, **(options | changes))  # type: ignore[arg-type]


def loaded(*loads: int) -> LoadHeap:
    heap = LoadHeap(len(loads))
    for instance, load in enumerate(loads):
        heap.add(instance, load)
    return heap


def test_round_robin_takes_turns() -> None:
    chosen = router("round_robin", loaded(9, 0, 0))
    assert [chosen.choose(OWN, 1, -1) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_least_loaded_takes_the_least_and_of_equals_the_first() -> None:
    assert router("least_loaded", loaded(3, 1, 1)).choose(OWN, 1, -1) == 1


def test_two_choices_never_takes_the_most_loaded_of_two() -> None:
    heap = loaded(5, 0)
    chosen = router("two_choices", heap)
    picks = [chosen.choose(OWN, 1, -1) for _ in range(400)]
    assert 0.65 < picks.count(1) / 400 < 0.85
    assert router("two_choices", heap).choose(OWN, 1, -1) == picks[0]


def test_affinity_without_anything_known_takes_the_least_loaded() -> None:
    assert router("affinity", loaded(2, 0, 1)).choose(SHARED, 100, -1) == 1


def test_affinity_follows_the_longest_prefix() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 2)
    index.computed(2, SHARED, 5)
    assert router("affinity", loaded(0, 0, 0), index).choose(SHARED, 100, -1) == 2


def test_affinity_weighs_the_backlog_against_the_prefix() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 2)
    for backlog_tokens, expected in ((31.0, 1), (33.0, 0)):
        chosen = router("affinity", loaded(0, 0), index, backlog_tokens=[0.0, backlog_tokens])
        assert chosen.choose(SHARED, 100, -1) == expected


def test_affinity_guards_against_overload() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 5)
    heap = loaded(1, 3, 0)
    assert router("affinity", heap, index, guard=1.5, slack=1.0).choose(SHARED, 100, -1) == 1
    assert router("affinity", heap, index, guard=1.4, slack=1.0).choose(SHARED, 100, -1) == 2


def test_affinity_returns_to_the_session_while_its_prefix_lasts() -> None:
    index = PrefixIndex()
    heap = loaded(0, 0)
    chosen = router("affinity", heap, index)
    assert isinstance(chosen, Affinity)
    assert chosen.choose(SHARED, 100, 7) == 0
    heap.add(0, 1)
    index.computed(0, SHARED, 4)
    assert chosen.choose(SHARED, 100, 7) == 0
    index.evicted(0, 0, 0)
    assert chosen.choose(SHARED, 100, 7) == 1


def test_affinity_looks_no_further_than_a_prompt_can_hit() -> None:
    """Of 32 tokens in blocks of 16 one block can be hit: the longer holder is no better than the other."""
    index = PrefixIndex()
    index.computed(1, SHARED, 1)
    index.computed(2, SHARED, 9)
    chosen = router("affinity", loaded(1, 0, 1), index, backlog_tokens=[0.0, 0.0, 1.0])
    assert chosen.choose(SHARED, 32, -1) == 1


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"routing.prefill: unknown router 'afinity'; did you mean 'affinity'"):
        router("afinity", loaded(0))


@pytest.mark.parametrize("name", PREFILL_ROUTERS)
def test_every_known_name_makes_a_router(name: str) -> None:
    assert 0 <= router(name, loaded(0, 0)).choose(SHARED, 5, 1) < 2
