"""Each decode router's proposals, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.policy.routing import DECODE_ROUTERS, Loads, decode_router
from kvsim.policy.routing.decode import DecodeRouter


def router(name: str, loads: list[int], racks: list[list[int]]) -> DecodeRouter:
    heap = Loads(len(loads))
    for instance, load in enumerate(loads):
        heap.add(instance, load)
    return decode_router(name, loads=heap, racks=racks, generator=np.random.default_rng(0))


def test_capacity_prefers_the_same_rack_while_it_is_about_as_empty_as_anybody() -> None:
    racks = [[0, 1], [2, 3], []]
    assert tuple(router("capacity", [109, 104, 100, 101], racks).propose(0)) == (1, 2)
    assert tuple(router("capacity", [109, 106, 100, 101], racks).propose(0)) == (2, 1)
    assert tuple(router("capacity", [109, 104, 100, 101], racks).propose(1)) == (2,)
    assert tuple(router("capacity", [109, 104, 100, 101], racks).propose(2)) == (2,)


def test_capacity_leaves_the_rack_for_whoever_is_idle() -> None:
    assert tuple(router("capacity", [0, 1, 1], [[0], [1, 2]]).propose(1)) == (0, 1)
    assert tuple(router("capacity", [0, 0, 0], [[0], [1, 2]]).propose(1)) == (1, 0)


def test_equals_of_a_rack_take_turns() -> None:
    chosen = router("capacity", [0, 0, 0, 0], [[0], [1, 2, 3]])
    assert [chosen.propose(1)[0] for _ in range(4)] == [1, 2, 3, 1]


def test_least_loaded_ignores_racks() -> None:
    assert tuple(router("least_loaded", [5, 2, 0, 1], [[0, 1], [2, 3]]).propose(0)) == (2,)


def test_two_choices_tries_the_emptier_first_and_the_emptiest_last() -> None:
    loads = [4, 3, 2, 1, 0]
    chosen = router("two_choices", loads, [[0, 1, 2, 3, 4]])
    for _ in range(50):
        first, second, last = chosen.propose(0)
        assert loads[first] <= loads[second]
        assert last == 4


def test_round_robin_takes_turns_and_falls_back_on_the_emptiest() -> None:
    chosen = router("round_robin", [1, 0, 1], [[0, 1, 2]])
    assert [tuple(chosen.propose(0)) for _ in range(4)] == [(0, 1), (1, 1), (2, 1), (0, 1)]


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"routing.decode: unknown router 'capacities'; did you mean 'capacity'"):
        router("capacities", [0], [[0]])


@pytest.mark.parametrize("name", DECODE_ROUTERS)
def test_every_known_name_makes_a_router(name: str) -> None:
    assert all(0 <= instance < 2 for instance in router(name, [0, 0], [[0, 1]]).propose(0))
