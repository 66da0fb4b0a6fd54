"""Transfers that share ports, against rates found anew for all of them whenever one comes or goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.clock import Clock
from kvsim.sim.network.jitter import Jitter
from kvsim.sim.network.max_min import fair_rates
from kvsim.sim.tiers.ports import Channel, Port, Route, SharedTransfer
from kvsim.sim.tiers.transfers import Transfers, port_backlog_s

Asked = list[tuple[float, list[tuple[int, float]], float]]
"""When, over which ports at which rates, and how many bytes."""


def shared(asked: Asked, num_ports: int) -> tuple[list[float], list[Port]]:
    """When each has arrived, and the ports after that."""
    clock = Clock()
    transfers, ports = Transfers(clock, shares=True), [Port(f"p{i}") for i in range(num_ports)]
    started: dict[int, SharedTransfer] = {}

    def start(number: int, route: Route, num_bytes: float) -> None:
        transfer = transfers.start(route, num_bytes)
        assert isinstance(transfer, SharedTransfer)
        started[number] = transfer

    for number, (at_s, path, num_bytes) in enumerate(asked):
        route = tuple(Channel(ports[port], rate) for port, rate in path)
        clock.schedule(at_s, callback=lambda _, n=number, w=route, b=num_bytes: start(n, w, b))
    clock.run_to_stop()
    return [started[number].arrives_s for number in range(len(asked))], ports


def literally(asked: Asked) -> list[float]:
    left: dict[int, float] = {}
    ends, now, coming = [0.0] * len(asked), 0.0, sorted(range(len(asked)), key=lambda number: asked[number][0])
    while coming or left:
        paths = [[port for port, _ in asked[number][1]] for number in left]
        weights = [[1 / rate for _, rate in asked[number][1]] for number in left]
        limits = [min(rate for _, rate in asked[number][1]) for number in left]
        capacity = {port: 1.0 for path in paths for port in path}
        rates = dict(zip(left, fair_rates(paths, limits, capacity, weights), strict=True))
        ending = min(left, key=lambda number: left[number] / rates[number], default=-1)
        end_s = now + left[ending] / rates[ending] if left else float("inf")
        until_s = min(end_s, asked[coming[0]][0] if coming else end_s)
        left = {number: size - rates[number] * (until_s - now) for number, size in left.items()}
        now = until_s
        if now == end_s:
            ends[ending] = now
            del left[ending]
        else:
            number = coming.pop(0)
            left[number] = asked[number][2]
    return ends


paths = st.lists(st.tuples(st.integers(0, 4), st.floats(0.5, 8)), min_size=1, max_size=3, unique_by=lambda hop: hop[0])


@settings(max_examples=90)
@given(st.lists(st.tuples(st.floats(0, 5), paths, st.floats(0.1, 10)), min_size=1, max_size=9))
def test_everybody_arrives_as_with_rates_found_anew(asked: Asked) -> None:
    ends, ports = shared(asked, 5)
    assert ends == pytest.approx(literally(asked), rel=1e-9, abs=1e-9)
    for number, port in enumerate(ports):
        passed = sum(size / rate for _, path, size in asked for hop, rate in path if hop == number)
        assert port.busy_s == pytest.approx(passed)
        assert port_backlog_s(port, max(ends)) == pytest.approx(0, abs=1e-9)


def test_who_is_alone_or_finds_room_costs_no_event() -> None:
    """Two at once that leave a fifth of the port, and one long after them."""
    clock, port = Clock(), Port("pool")
    transfers = Transfers(clock, shares=True)
    routes = [(Channel(Port(f"nic {i}"), 4.0), Channel(port, 10.0)) for i in range(3)]
    ends = [transfers.start(route, 4.0).arrives_s for route in routes[:2]]
    clock.schedule(5.0, callback=lambda _: ends.append(transfers.start(routes[2], 4.0).arrives_s))
    clock.run_to_stop()
    assert ends == [1.0, 1.0, 6.0]
    assert clock.num_events == 1


def test_what_is_expected_counts_those_on_the_way() -> None:
    clock, route = Clock(), (Channel(Port("p"), 10.0, 0.5),)
    transfers = Transfers(clock, shares=True)
    transfers.start(route, 100.0)
    assert (transfers.backlog_s(route), transfers.ends_s(route, 20.0), transfers.ends_s(route, 200.0)) == (
        10.0,
        4.5,
        30.5,
    )


def test_a_wait_is_what_a_transfer_takes_beyond_what_it_takes_alone() -> None:
    ends, (port,) = shared([(0.0, [(0, 10.0)], 20.0), (1.0, [(0, 10.0)], 20.0)], 1)
    assert ends == [3.0, 4.0]
    assert port.waited_s == pytest.approx(1.0 + 1.0)


def test_jitter_takes_more_of_its_port() -> None:
    clock, port = Clock(), Port("nic")
    transfers = Transfers(clock, shares=True)
    slow = Channel(port, 10.0, 0.5, Jitter(0.0, 1.0, 3.0, np.random.default_rng(0)))
    first, second = (transfers.start((channel,), 10.0) for channel in (slow, Channel(port, 10.0)))
    clock.run_to_stop()
    # Byte for byte the first takes three quarters of the port: both move 2.5 a second until the second is through.
    assert (first.arrives_s, second.arrives_s) == (pytest.approx(4.0 + 1.5), pytest.approx(4.0))
