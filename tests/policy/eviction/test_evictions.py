"""What every eviction policy keeps to, whatever it is asked; and who goes first under each, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.policy.eviction import EVICTIONS, NEVER, NOBODY, Access, make_eviction, next_uses

KEYS = 14
OPERATIONS = st.lists(
    st.tuples(st.integers(0, KEYS - 1), st.sampled_from(("ask", "ask", "ask", "discard")), st.integers(-1, 3)),
    max_size=120,
)


def filled(access: Access, index: int, session: int, next_use: int) -> None:
    """As the ``index``-th access of prompts of four blocks."""
    access.index, access.depth, access.blocks = index, index % 4, 4
    access.time_s, access.session_id, access.turn = index / 10, session, index // 4 if session > 0 else 0
    access.next_use = next_use


@pytest.mark.parametrize("name", EVICTIONS)
@given(capacity=st.integers(1, 9), operations=OPERATIONS)
def test_residents_are_what_came_and_did_not_leave(name: str, capacity: int, operations: list) -> None:
    policy, access, resident = make_eviction(name, capacity), Access(), set()
    uses = next_uses([key for key, _, _ in operations])
    for index, (key, what, session) in enumerate(operations):
        filled(access, index, session, uses[index])
        if what == "discard":
            if key in resident:
                policy.discard(key)
                resident.remove(key)
        elif key in resident:
            policy.hit(key, access)
        else:
            was_full = len(resident) == capacity
            victim = policy.admit(key, access)
            assert (victim != NOBODY) == was_full
            resident -= {victim}
            resident.add(key)
        assert len(policy) == len(resident) <= capacity
        assert {each for each in range(KEYS) if each in policy} == resident


@given(capacity=st.integers(1, 9), keys=st.lists(st.integers(0, KEYS - 1), max_size=150))
def test_nobody_hits_more_often_than_belady(capacity: int, keys: list[int]) -> None:
    most = make_eviction("belady", capacity).replay(keys)
    for name in EVICTIONS:
        assert make_eviction(name, capacity).replay(keys) <= most, name


@given(keys=st.lists(st.integers(0, 9), max_size=60))
def test_next_uses(keys: list[int]) -> None:
    naive = [next((j for j in range(i + 1, len(keys)) if keys[j] == key), NEVER) for i, key in enumerate(keys)]
    assert next_uses(keys) == naive


@pytest.mark.parametrize("name", ["arc", "hybrid"])
@given(capacity=st.integers(1, 6), operations=OPERATIONS)
def test_ghosts_are_bounded(name: str, capacity: int, operations: list) -> None:
    policy, access = make_eviction(name, capacity), Access()
    for index, (key, what, session) in enumerate(operations):
        filled(access, index, session, NEVER)
        if key not in policy:
            policy.admit(key, access)
        elif what == "discard":
            policy.discard(key)
        else:
            policy.hit(key, access)
        assert len(policy._t1) + len(policy._b1) <= capacity
        assert len(policy) + len(policy._b1) + len(policy._b2) <= 2 * capacity


def victims(name: str, capacity: int, keys: list[int]) -> list[tuple[int, int]]:
    """The newcomer and who went for it."""
    policy, access, found = make_eviction(name, capacity), Access(), []
    uses = next_uses(keys)
    for index, key in enumerate(keys):
        access.index, access.next_use = index, uses[index]
        if key in policy:
            policy.hit(key, access)
        elif (victim := policy.admit(key, access)) != NOBODY:
            found.append((key, victim))
    return found


@pytest.mark.parametrize(
    ("name", "order"),
    {
        "fifo": [(4, 1), (5, 2), (6, 3)],
        "lru": [(4, 3), (5, 1), (6, 2)],
        "lfu": [(4, 3), (5, 4), (6, 5)],
        "sieve": [(4, 3), (5, 1), (6, 2)],
        "arc": [(4, 3), (5, 4), (6, 5)],
        "hybrid": [(4, 3), (5, 4), (6, 5)],
        "belady": [(4, 3), (5, 4), (6, 5)],
    }.items(),
)
def test_who_goes(name: str, order: list[tuple[int, int]]) -> None:
    assert victims(name, 3, [1, 2, 3, 1, 2, 2, 4, 5, 6, 1, 2])[:3] == order


def test_a_scan_leaves_what_is_used_in_twoq_s3fifo_and_lirs() -> None:
    used, scan = list(range(10)), list(range(1000, 1400))
    ghosts = list(range(500, 600))
    for name in ("twoq", "s3fifo", "lirs"):
        policy = make_eviction(name, 100)
        policy.replay([*used, *ghosts, *used, *used, *used, *scan])
        assert all(key in policy for key in used), name
    lru = make_eviction("lru", 100)
    lru.replay([*used, *ghosts, *used, *used, *used, *scan])
    assert not any(key in lru for key in used)


def test_gdsf_keeps_the_deeper_of_two() -> None:
    policy, access = make_eviction("gdsf", 2), Access()
    access.depth = 50
    policy.admit(1, access)
    access.depth = 0
    assert policy.admit(2, access) == NOBODY
    assert policy.admit(3, access) == 2


@pytest.mark.parametrize("name", EVICTIONS)
def test_a_cache_has_a_block(name: str) -> None:
    with pytest.raises(ConfigError, match=f"eviction '{name}': a capacity of 0 blocks; allowed: 1 or more"):
        make_eviction(name, 0)
