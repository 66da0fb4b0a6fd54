"""Cells of a plan: equal, whole, and refused in one line where they would share something."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.config.derived import spread
from kvsim.errors import ConfigError
from kvsim.plan.mode import CLUSTER
from kvsim.plan.plan import Place, Plan, make_plan, unified_plan

HOSTS_OVER_RACKS = ("cluster.simulate_gpus_per_rack=12", "cluster.network.gpus_per_host=8")
FOUR_RACKS = ("cluster.simulate_racks=4", "cluster.simulate_gpus_per_rack=16")


def planned(*sets: str) -> Plan:
    return make_plan(load_config(sets=(*FOUR_RACKS, *sets)).config)


def test_a_cell_is_a_cluster_of_its_own() -> None:
    whole = planned("routing.cells=rack", "cluster.network.seed=5")
    assert (whole.cells, whole.num_instances, whole.num_prefill, whole.num_decode) == (4, 16, 4, 12)
    cells = [whole.cell(number) for number in range(4)]
    assert {(cell.cells, cell.num_instances, cell.num_prefill, cell.num_decode) for cell in cells} == {(1, 4, 1, 3)}
    assert {cell.config.routing.cells for cell in cells} == {None}
    assert len({cell.config.cluster.network.seed for cell in cells}) == 4, "jitter of their own"
    alone = cells[0].places()
    moved = [Place(place.is_prefill, place.host + 2 * rack, rack) for rack in range(4) for place in alone]
    assert whole.places() == moved == planned().places()


def test_roles_are_spread_over_cells_as_evenly_as_whole_ones_go() -> None:
    whole = planned("routing.cells=2", "pd_separation.pd_ratio=[3,13]")
    assert (whole.num_prefill, [whole.cell(number).num_prefill for number in range(2)]) == (3, [1, 2])
    assert [kind.num_prefill for kind in whole.cell_kinds()] == [1, 2]
    assert whole.num_decode == sum(whole.cell(number).num_decode for number in range(2)) == 13
    assert planned("routing.cells=4", "pd_separation.pd_ratio=[1,99]").num_prefill == 4, "one in each cell"
    assert spread(7, 3) == [2, 2, 3]


def test_a_cell_of_instances_of_two_sizes_leaves_no_gpu_of_another() -> None:
    sizes = ("pd_separation.prefill_tensor_parallel_size=4", "pd_separation.decode_tensor_parallel_size=8")
    whole = planned("routing.cells=4", "pd_separation.pd_ratio=[1,1]", *sizes)
    cells = [whole.cell(number) for number in range(4)]
    assert whole.num_decode == sum(cell.num_decode for cell in cells)
    assert all(cell.num_prefill * 4 + cell.num_decode * 8 <= 16 for cell in cells)
    assert max(place.rack for place in whole.places()) == 3


def test_fewer_instances_are_fewer_cells_or_a_part_of_one() -> None:
    whole = planned("routing.cells=rack")
    for asked, cells, instances, prefills in ((16, 4, 16, 4), (9, 2, 8, 2), (4, 1, 4, 1), (2, 1, 2, 1)):
        small = whole.scaled_to(asked)
        assert (small.cells, small.num_instances, small.num_prefill) == (cells, instances, prefills)
        assert small.cell(0).num_instances == instances // cells


def test_unified_instances_without_tiers_are_dealt_in_any_equal_numbers() -> None:
    config = load_config(sets=(*FOUR_RACKS, "routing.cells=8", "cluster.tiers=[]")).config
    assert CLUSTER.plan(config).cell(7).num_instances == 2
    assert unified_plan(load_config(sets=("routing.cells=3",)).config, 6).cells == 3


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ("routing.cells=3",),
            "routing.cells = 3: 16 instances of 4 GPUs .* whole racks of 16 GPUs each; nearest: 1, 2, 4",
        ),
        (("routing.cells=8",), "whole racks of 16 GPUs each; nearest: 1, 2, 4"),
        (
            ("routing.cells=2", "cache.restart_after_requests=5"),
            "cache.restart_after_requests = 5: requests are counted",
        ),
        (
            ("routing.cells=rack", "pd_separation.tiers=[dram,ssd]", "cluster.ssd_scope=cluster"),
            r"routing.cells = rack \(4\) and cluster.ssd_scope = 'cluster'",
        ),
        (
            (*HOSTS_OVER_RACKS, "routing.cells=2", "pd_separation.tiers=[dram,ssd]", "cluster.ssd_scope=cluster"),
            "simulate_gpus_per_rack = 12 is no multiple of cluster.network.gpus_per_host = 8: a host, whose memory",
        ),
        (
            (*HOSTS_OVER_RACKS, "routing.cells=4"),
            "whole racks of 12 and whole hosts of 8 GPUs each; nearest: 1, 2$",
        ),
        (("routing.cells=rack", "engine.data_parallel_size=8"), "no multiple of engine.data_parallel_size = 8"),
        (("routing.cells=0",), "routing.cells"),
        (("routing.cells=racks",), "routing.cells"),
    ],
)
def test_what_would_be_shared_is_one_line(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        planned(*sets)
    assert "\n" not in str(raised.value)


def test_a_pool_of_a_rack_is_not_cut() -> None:
    for tier, refused in (("eic", True), ("dram", False)):
        sets = (
            f"cluster.tiers=[{tier}]",
            "routing.cells=2",
            "cluster.simulate_racks=1",
            "cluster.simulate_gpus_per_rack=16",
        )
        config = load_config(sets=sets).config
        if refused:
            with pytest.raises(ConfigError, match="whole racks of 16 GPUs"):
                CLUSTER.plan(config)
        else:
            assert CLUSTER.plan(config).cells == 2


def test_a_plan_that_leaves_a_cell_without_a_role_is_refused_where_it_is_cut() -> None:
    assert planned("routing.cells=4").most_prefill == 12
