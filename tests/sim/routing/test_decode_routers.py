"""Each decode router's proposals, case by case."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.sim.routing import DECODE_ROUTERS, DecodeLoads, Loads, decode_router
from kvsim.sim.routing.decode import DecodeRouter


def router(name: str, loads: list[int], racks: list[list[int]]) -> DecodeRouter:
    heap = Loads(len(loads))
    for instance, load in enumerate(loads):
        heap.add(instance, load)
    return decode_router(name, loads=heap, racks=racks, generator=np.random.default_rng(0))


def test_capacity_prefers_the_same_rack_while_it_is_no_fuller_than_others() -> None:
    """A mean of 100: 105 is about as full, 106 is not."""
    racks = [[0, 1], [2, 3], []]
    assert tuple(router("capacity", [109, 105, 89, 97], racks).propose(0)) == (1, 2)
    assert tuple(router("capacity", [109, 106, 89, 96], racks).propose(0)) == (2, 1)
    assert tuple(router("capacity", [109, 105, 89, 97], racks).propose(1)) == (2,)
    assert tuple(router("capacity", [109, 105, 89, 97], racks).propose(2)) == (2,)


def test_who_has_no_seat_left_does_not_count_for_the_mean() -> None:
    """Shares of 0.5, 0.25 and one without a seat: the second is emptier than the mean, the first is not."""
    loads = DecodeLoads(3, room_tokens=100, seats=4)
    for instance, requests in enumerate((2, 1, 4)):
        for _ in range(requests):
            loads.promise(instance, 1)
    assert loads.mean == pytest.approx((0.5 + 0.25 + 1.0) / 3)
    chosen = decode_router("capacity", loads=loads, racks=[[0], [1], [2]], generator=np.random.default_rng(0))
    assert [tuple(chosen.propose(rack)) for rack in range(3)] == [(0, 1), (1,), (1, 2)]
    loads.promise(0, 1)
    assert tuple(chosen.propose(0)) == (1, 0)
    for _ in range(2):
        loads.give_back(2, 1)
    assert loads.mean == pytest.approx((0.75 + 0.25 + 0.5) / 3)


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
    with pytest.raises(ConfigError, match=r"routing.decode: unknown policy 'capacities'; did you mean 'capacity'"):
        router("capacities", [0], [[0]])


@pytest.mark.parametrize("name", DECODE_ROUTERS)
def test_every_known_name_makes_a_router(name: str) -> None:
    assert all(0 <= instance < 2 for instance in router(name, [0, 0], [[0, 1]]).propose(0))
