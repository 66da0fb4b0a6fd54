"""Fair rates against progressive filling, done slowly and literally."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.network.max_min import fair_rates


def filled(paths: list[list[int]], limits: list[float], capacity: dict[int, float]) -> list[float]:
    """All flows grow together by the largest step nobody objects to, then those that met a limit stop."""
    rates, growing = [0.0] * len(paths), set(range(len(paths)))
    while growing:
        steps = [limits[flow] - rates[flow] for flow in growing]
        for link, room in capacity.items():
            crossing = [flow for flow in growing if link in paths[flow]]
            if crossing:
                used = sum(rates[flow] for flow, path in enumerate(paths) if link in path)
                steps.append((room - used) / len(crossing))
        step = max(min(steps), 0.0)
        for flow in growing:
            rates[flow] += step
        full = {
            link
            for link, room in capacity.items()
            if sum(rates[flow] for flow, path in enumerate(paths) if link in path) >= room * (1 - 1e-12)
        }
        growing = {f for f in growing if rates[f] < limits[f] * (1 - 1e-12) and not full & set(paths[f])}
    return rates


@pytest.mark.parametrize("k", [1, 2, 3, 7, 100])
def test_equal_flows_get_equal_shares(k: int) -> None:
    assert fair_rates([[0]] * k, [10.0] * k, {0: 10.0}) == [10.0 / k] * k


def test_the_textbook_example() -> None:
    """A long flow over two links with one short flow on the first and two on the second."""
    rates = fair_rates([[0, 1], [0], [1], [1]], [9.0] * 4, {0: 1.0, 1: 1.0})
    assert rates == pytest.approx([1 / 3, 2 / 3, 1 / 3, 1 / 3])


def test_a_slow_flow_leaves_its_share_to_others() -> None:
    assert fair_rates([[0], [0], [0]], [0.1, 9.0, 9.0], {0: 1.1}) == pytest.approx([0.1, 0.5, 0.5])


@given(st.data())
def test_random_topologies_equal_progressive_filling(data: st.DataObject) -> None:
    links = data.draw(st.integers(1, 6))
    capacity = {link: data.draw(st.floats(0.1, 10)) for link in range(links)}
    paths = data.draw(st.lists(st.lists(st.integers(0, links - 1), max_size=4, unique=True), min_size=1, max_size=9))
    limits = [data.draw(st.floats(0.1, 10)) for _ in paths]
    assert fair_rates(paths, limits, capacity) == pytest.approx(filled(paths, limits, capacity), rel=1e-6)


def test_flows_that_take_more_of_a_link_leave_less_of_it_to_all() -> None:
    """Of a link that reads 50 and writes 25: byte for byte."""
    assert fair_rates([[0], [0]], [50.0, 25.0], {0: 1.0}, [[1 / 50], [1 / 25]]) == pytest.approx([50 / 3, 50 / 3])


@given(st.data())
def test_a_link_s_weights_are_a_matter_of_its_unit(data: st.DataObject) -> None:
    paths = [[0, 1], [0], [1], [1]]
    units = {link: data.draw(st.floats(0.1, 10)) for link in (0, 1)}
    limits = [data.draw(st.floats(0.1, 10)) for _ in paths]
    weighted = fair_rates(paths, limits, units, [[units[link] for link in path] for path in paths])
    assert weighted == pytest.approx(fair_rates(paths, limits, {0: 1.0, 1: 1.0}), rel=1e-9)
