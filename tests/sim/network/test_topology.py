"""Links and paths: NVLink inside a host, NICs beyond, uplinks where a rack has less than its NICs."""

from __future__ import annotations

import pytest

from kvsim.sim.network.topology import Topology

HOSTS, RACKS = (0, 0, 1, 2), (0, 0, 0, 1)


def topology(oversubscription: float = 1.0) -> Topology:
    return Topology(
        [10.0, 20.0, 10.0, 40.0],
        [100.0] * 4,
        HOSTS,
        RACKS,
        oversubscription=oversubscription,
        nic_latency_s=5.0,
        nvlink_latency_s=1.0,
        intra_rack_latency_s=3.0,
        cross_rack_latency_s=15.0,
    )


def capacities(found: Topology, source: int, target: int) -> list[float]:
    return [found.capacity_bytes_per_s[link] for link in found.path(source, target)]


def test_nvlink_inside_a_host() -> None:
    assert capacities(topology(), 0, 1) == [100.0, 100.0]
    assert topology().latency_s(0, 1) == 1.0
    assert set(topology().path(0, 1)).isdisjoint(topology().path(1, 0))


def test_nics_beyond_a_host() -> None:
    assert capacities(topology(), 1, 2) == [20.0, 10.0]
    assert topology().latency_s(1, 2) == 8.0


def test_full_bisection_has_no_rack_links() -> None:
    assert capacities(topology(), 0, 3) == [10.0, 40.0]
    assert topology().latency_s(0, 3) == 20.0
    assert len(topology().links("rack_up")) == 0


def test_an_oversubscribed_rack_has_an_uplink_and_a_downlink() -> None:
    found = topology(4.0)
    assert capacities(found, 0, 3) == [10.0, 40.0 / 4, 40.0 / 4, 40.0]
    assert capacities(found, 0, 2) == [10.0, 10.0]
    assert set(found.path(0, 3)).isdisjoint(found.path(3, 0))


@pytest.mark.parametrize("kind", ["nic_out", "nic_in", "nvlink_out", "nvlink_in"])
def test_every_instance_has_one_link_of_each_kind(kind: str) -> None:
    assert len(topology().links(kind)) == 4


def test_links_of_all_kinds_are_all_links() -> None:
    found = topology(2.0)
    kinds = ("nic_out", "nic_in", "nvlink_out", "nvlink_in", "rack_up", "rack_down")
    assert [link for kind in kinds for link in found.links(kind)] == list(range(found.num_links))
