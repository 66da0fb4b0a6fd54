"""Hit counts of every policy on traces that a formula makes; those of the six exact ones are libCacheSim 0.3.5's."""

from __future__ import annotations

from itertools import accumulate

import pytest
from key_traces import draws, mixed, skewed

from kvsim.policy.eviction import EVICTIONS, Eviction, make_eviction
from kvsim.policy.eviction.replay import replay
from kvsim.workload.accesses import Accesses

CAPACITIES = (1, 7, 50, 200, 700)

ON_KEYS = {
    "fifo": ((128, 692, 2432, 4899, 9245), (47, 287, 2435, 9944, 13845)),
    "lru": ((128, 759, 2817, 5428, 9977), (47, 298, 2510, 10367, 14934)),
    "lfu": ((128, 2143, 4449, 7177, 10830), (47, 636, 2188, 12072, 16177)),
    "arc": ((128, 2294, 4287, 7018, 10633), (47, 723, 3547, 11427, 16264)),
    "twoq": ((128, 2137, 4189, 6849, 10547), (47, 719, 3583, 11710, 15732)),
    "sieve": ((128, 2246, 4426, 7195, 10830), (47, 731, 2305, 11773, 16177)),
    "s3fifo": ((128, 2446, 4601, 7334, 10936), (47, 820, 4233, 12100, 16190)),
    "lirs": ((128, 2244, 4380, 7069, 10733), (47, 747, 4535, 11656, 16254)),
    "random": ((128, 694, 2431, 4869, 9198), (47, 284, 3427, 9665, 14115)),
    "belady": ((128, 3293, 6850, 10477, 14351), (47, 2104, 8245, 14310, 16443)),
}
"""Of 20,000 accesses: the skewed trace, the mixed one."""

ON_PROMPTS = {
    "gdsf": (871, 11316, 14715, 16882),
    "session": (2358, 11301, 15190, 17274),
    "hybrid": (1072, 10913, 14936, 17098),
}


def prompts() -> Accesses:
    """Single prompts between sessions of a few turns, each of which repeats the last and adds to it."""
    numbers = draws(3)
    open_sessions: list[tuple[int, list[int]]] = []
    asked: list[tuple[int, int, list[int]]] = []
    fresh = 100
    for session in range(900):
        if open_sessions and next(numbers) < 0.6:
            owner, before = open_sessions.pop(int(next(numbers) * len(open_sessions)))
        else:
            owner, before = session, list(range(int(4 * next(numbers)) * 10, 40))[:10]
        more = 1 + int(12 * next(numbers))
        path = [*before, *range(fresh, fresh + more)]
        fresh += more
        asked.append((owner, sum(owner == other for other, _, _ in asked), path))
        if next(numbers) < 0.75:
            open_sessions.append((owner, path))
    return Accesses(
        keys=[key for _, _, path in asked for key in path],
        offsets=[0, *accumulate(len(path) for _, _, path in asked)],
        time_s=[float(i) for i in range(len(asked))],
        session_id=[owner for owner, _, _ in asked],
        turn=[turn for _, turn, _ in asked],
    )


@pytest.mark.parametrize("name", ON_KEYS)
def test_traces_of_keys(name: str) -> None:
    traces = skewed(20_000, 3000), mixed(20_000)
    hits = tuple(tuple(make_eviction(name, size).replay(keys) for size in CAPACITIES) for keys in traces)
    assert hits == ON_KEYS[name]


@pytest.mark.parametrize("name", ON_PROMPTS)
def test_a_trace_of_prompts(name: str) -> None:
    accesses = prompts()
    assert tuple(replay(make_eviction(name, size), accesses) for size in (20, 200, 1000, 3000)) == ON_PROMPTS[name]


def test_every_policy_has_golden_hits() -> None:
    assert {*ON_KEYS, *ON_PROMPTS} >= {name for name in EVICTIONS if name != "learned"}


def test_the_seed_draws() -> None:
    keys = mixed(5000)
    assert make_eviction("random", 50, seed=1).replay(keys) != make_eviction("random", 50, seed=2).replay(keys)


def test_an_access_at_a_time_or_all_at_once() -> None:
    """Where a policy has a faster replay, it is the same one."""
    keys = prompts().keys[:4000]
    for name in EVICTIONS:
        one, other = make_eviction(name, 100), make_eviction(name, 100)
        assert Eviction.replay(one, keys) == other.replay(keys)
