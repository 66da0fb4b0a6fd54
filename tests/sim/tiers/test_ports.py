"""Ports in turn: one transfer after the other, each as fast as the slowest channel of its route."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.network.jitter import Jitter
from kvsim.sim.tiers.ports import Channel, Port, Spread, book, ends_s


def test_one_after_the_other() -> None:
    port = Port("p")
    route = (Channel(port, 10.0, 0.5),)
    assert book(route, 0.0, 20.0) == 2.5
    assert book(route, 1.0, 10.0) == 3.5
    assert (port.busy_s, port.waited_s, port.bytes_moved, port.transfers) == (3.0, 1.0, 30.0, 2)


def test_the_slowest_lane_decides_and_the_others_are_free_sooner() -> None:
    fast, slow = Port("fast"), Port("slow")
    both = (Channel(fast, 100.0), Channel(slow, 10.0))
    assert book(both, 0.0, 100.0) == 10.0
    assert (fast.free_s, slow.free_s) == (1.0, 10.0)
    assert ends_s((Channel(fast, 100.0),), 0.0, 10.0) == 1.1
    assert ends_s(both, 0.0, 10.0) == 11.0


def test_a_port_is_no_longer_taken_than_it_needs_by_who_is_slow_elsewhere() -> None:
    """Four of 46 at a pool of 200 do not hold each other up; of five the last one ends when all bytes have passed."""
    pool = Port("pool")
    ends = [book((Channel(Port(f"nic {i}"), 46.0), Channel(pool, 200.0)), 0.0, 1.0) for i in range(5)]
    assert ends == pytest.approx([1 / 46] * 4 + [5 / 200])
    assert pool.waited_s == pytest.approx(5 / 200 - 1 / 46)


def test_what_does_not_queue_waits_for_nobody() -> None:
    port = Port("p", queues=False)
    ends = [book((Channel(port, 10.0, 0.5),), 0.0, 20.0) for _ in range(2)]
    assert ends == [2.5, 2.5]
    assert (port.free_s, port.waited_s, port.busy_s) == (0.0, 0.0, 4.0)


def test_a_port_serves_others_while_a_transfer_waits_for_another_port() -> None:
    nics, busy, idle = Port("nics"), Port("busy"), Port("idle")
    book((Channel(busy, 1.0),), 0.0, 100.0)
    assert book((Channel(nics, 10.0), Channel(busy, 1.0)), 0.0, 10.0) == 110.0
    assert book((Channel(nics, 10.0), Channel(idle, 1.0)), 0.0, 10.0) == 10.0
    assert nics.busy_s == nics.free_s == 2.0


def test_jitter_stretches_a_network_s_lane_alone() -> None:
    jitter = Jitter(0.0, 1.0, 3.0, np.random.default_rng(0))
    network, device = Channel(Port("nic"), 10.0, 0.5, jitter), Channel(Port("device"), 8.0, 0.25)
    assert ends_s((network, device), 0.0, 20.0) == 2.5 + 0.75
    assert book((network, device), 0.0, 20.0) == 3 * 2.0 + 3 * 0.5 + 0.25
    assert (network.port.free_s, device.port.free_s) == (6.0, 2.5)


def test_what_is_far_takes_the_uplinks_of_both_ends() -> None:
    devices = [Channel(Port(f"device {i}"), 1.0) for i in range(4)]
    near, far, own, others = (Channel(Port(name), 1.0) for name in ("near", "far", "own", "others"))
    spread = Spread(devices, 0, devices[0], range(2), (near, far), (own, [others] * 4))
    routes = {spread.route(chain)[-1].port.name: spread.route(chain) for chain in range(2000)}
    assert routes["device 0"] == (devices[0],)
    assert routes["device 1"] == (near, devices[1])
    assert routes["device 3"] == (far, own, others, devices[3])
    assert spread.farthest() == routes["device 3"]
    assert Spread(devices[:2], 0, devices[0], range(2), (near, far)).farthest() == routes["device 1"]
    assert Spread(devices[:1], 0, devices[0], range(-3, 5), (near, far)).farthest() == routes["device 0"]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(1, 100)), min_size=1, max_size=20))
def test_what_was_asked_is_moved_and_nothing_overlaps(asked: list[tuple[float, float]]) -> None:
    port, now, before = Port("p"), 0.0, 0.0
    for gap, size in asked:
        now += gap
        end = book((Channel(port, 7.0),), now, size)
        assert end >= max(now, before) + size / 7.0 - 1e-9
        before = end
    assert port.bytes_moved == pytest.approx(sum(size for _, size in asked))
    assert port.busy_s == pytest.approx(port.bytes_moved / 7.0)
