"""Tiers below the engines' caches: every time equals a calculation by hand, and what moves is where it should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, by_request, coefficients, plan, served, workload
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.plan.plan import make_plan
from kvsim.record.result import CacheUse, Check
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.sim.tiers.ports import Port
from kvsim.sim.tiers.use import tier_checks, tier_notes, with_tiers

TOKEN_S = 1e-3
TIMES = coefficients(p1_s_per_token=TOKEN_S)
TOKEN_BYTES = 131_072
"""Of Llama-3.1-8B: 2 x 32 layers x 8 KV heads x 128 x 2 bytes."""
HEAD = 1024
"""Four chunks of 256 tokens, which two prompts share."""
GB = 1e9


def tiered(tiers: tuple[str, ...], *sets: str, instances: int = 2, per_host: int = 2, **engine: object):
    """Instances on hosts of ``per_host``, requests in turn: the second of two meets an engine without its prefix."""
    base = (f"cluster.network.gpus_per_host={per_host}", "routing.prefill=round_robin", "cache.load_or_recompute=false")
    found = plan(1, instances - 1, sets=(*base, *sets), times=TIMES, nic_bytes_per_s=50 * GB, **engine)
    return replace(found, num_instances=instances, tiers=tiers)


def two(gap_s: float = 10.0, num: int = 2) -> list[Row]:
    return [Row(i * gap_s, pieces=((0, HEAD), (-1 - i, 100)), output_tokens=1) for i in range(num)]


def ttft_s(system: UnifiedSystem | PdSystem) -> np.ndarray:
    table = by_request(system)
    return table["first_token_s"] - table["arrival_s"]


def laws(system: UnifiedSystem | PdSystem) -> list[Check]:
    assert system.tiers is not None
    return [law for law in tier_checks(system.tiers, system.requests.table()) if not law.ok]


def said_of(system: UnifiedSystem) -> list[str]:
    assert system.tiers is not None
    return tier_notes(with_tiers(CacheUse(0, 0, 0, 0, 0), system.tiers, system.clock.now), system.plan.config)


def run(tiers: tuple[str, ...], *sets: str, rows: list[Row] | None = None, **how: object) -> UnifiedSystem:
    system = served(UnifiedSystem, tiered(tiers, *sets, **how), workload(rows or two()))
    if tiers:
        assert not laws(system)
    return system


COMPUTED_S = (HEAD + 100) * TOKEN_S
LOADS = {
    "dram": (("dram",), 1e-4 + HEAD * TOKEN_BYTES / (55 * GB)),
    "eic": (("eic",), 5e-6 + HEAD * TOKEN_BYTES / (50 * GB)),
    "ssd": (("ssd",), 1e-4 + HEAD * TOKEN_BYTES / (50 * GB)),
}


@pytest.mark.parametrize(("tiers", "load_s"), LOADS.values(), ids=LOADS)
def test_one_load_takes_what_a_hand_calculation_gives(tiers: tuple[str, ...], load_s: float) -> None:
    system = run(tiers)
    assert ttft_s(system) == pytest.approx([COMPUTED_S, load_s + 100 * TOKEN_S], rel=1e-9)
    table = by_request(system)
    assert list(table["loaded_tokens"]) == [0, HEAD]
    assert table["tier_load_s"][1] == pytest.approx(load_s, rel=1e-9)


def test_half_the_bandwidth_costs_what_the_bytes_take() -> None:
    halves = {
        "dram": ("hardware.dram.read_gb_per_s=27.5", 55),
        "eic": ("cluster.eic.read_gb_per_s=25", 50),
        "ssd": ("hardware.ssd.read_gb_per_s=25", 50),
    }
    for tier, (half, gb_per_s) in halves.items():
        slower = ttft_s(run((tier,), half))[1] - ttft_s(run((tier,)))[1]
        rate = 25 if tier != "dram" else 27.5
        assert slower == pytest.approx(HEAD * TOKEN_BYTES * (1 / (rate * GB) - 1 / (gb_per_s * GB)), rel=1e-6), tier


def test_without_a_tier_or_with_too_small_a_one_the_prompt_is_computed() -> None:
    assert ttft_s(run(()))[1] == pytest.approx(COMPUTED_S, rel=1e-9)
    two_chunks_gb = 2 * 256 * TOKEN_BYTES / GB
    small = run(("dram",), f"hardware.dram.capacity_gb={two_chunks_gb + 0.001}")
    half_s = 1e-4 + HEAD // 2 * TOKEN_BYTES / (55 * GB) + (HEAD // 2 + 100) * TOKEN_S
    assert ttft_s(small)[1] == pytest.approx(half_s, rel=1e-9)  # LRU keeps the first two chunks: tails go first
    assert small.tiers is not None
    assert small.tiers.log.misses.evicted_tokens == HEAD // 2


def after_one(num: int) -> list[Row]:
    """One prompt, and long after it as many at once that begin as it does."""
    return [*two(num=1), *(Row(10.0, pieces=((0, HEAD), (-2 - i, 100)), output_tokens=1) for i in range(num))]


@pytest.mark.parametrize(("contention", "turns"), [("max_min", (3, 3, 3)), ("fifo", (1, 2, 3))])
def test_loads_share_a_port_or_take_it_in_turn(contention: str, turns: tuple[int, ...]) -> None:
    slow = ("hardware.dram.host_gb_per_s=10", f"cache.contention={contention}")
    system = run(("dram",), *slow, rows=after_one(3), instances=4, per_host=4)
    each_s = HEAD * TOKEN_BYTES / (10 * GB)
    loads_s = by_request(system)["tier_load_s"][1:]
    assert sorted(loads_s) == pytest.approx([1e-4 + turn * each_s for turn in turns], rel=1e-9)


@pytest.mark.parametrize("contention", ["max_min", "fifo"])
def test_readers_that_a_pool_has_room_for_do_not_hold_each_other_up(contention: str) -> None:
    """Four of 46 GB/s at a pool of 200."""
    own = tiered(("eic",), f"cache.contention={contention}", instances=5, per_host=5)
    nics = own.with_instances(nic_bytes_per_s=46 * GB)
    loads_s = by_request(served(UnifiedSystem, nics, workload(after_one(4))))["tier_load_s"][1:]
    alone_s = 5e-6 + HEAD * TOKEN_BYTES / (46 * GB)
    assert loads_s == pytest.approx(4 * [alone_s], rel=1e-9)


@pytest.mark.parametrize(("contention", "rates"), [("max_min", 5 * [40]), ("fifo", [46, 46, 46, 46, 40])])
def test_readers_that_a_pool_has_no_room_for_take_all_of_it(contention: str, rates: list[float]) -> None:
    """Five of 46 GB/s would take 230 of 200."""
    own = tiered(("eic",), f"cache.contention={contention}", instances=6, per_host=6)
    own = own.with_instances(nic_bytes_per_s=46 * GB)
    loads_s = by_request(served(UnifiedSystem, own, workload(after_one(5))))["tier_load_s"][1:]
    assert loads_s == pytest.approx([5e-6 + HEAD * TOKEN_BYTES / (rate * GB) for rate in rates], rel=1e-9)


@pytest.mark.parametrize("contention", ["max_min", "fifo"])
def test_a_write_delays_what_shares_the_drives(contention: str) -> None:
    rows = [*two(num=1), Row(10.0, pieces=((-2, 4096),)), Row(14.0962, pieces=((0, HEAD), (-3, 100)))]
    # The second prompt is computed at 14.096 s and written for a while; the third comes into that, to the same host.
    sets = ("cluster.ssd_scope=host", f"cache.contention={contention}")
    system = run(("ssd",), *sets, rows=rows, instances=3, per_host=3)
    read_s = HEAD * TOKEN_BYTES / (50 * GB)
    waits_s = 14.096 + 4096 * TOKEN_BYTES / (25 * GB) - 14.0962
    if contention == "max_min":  # byte for byte: two that are written for each that is read, in the drives' time
        waits_s = 2 * read_s
    assert by_request(system)["tier_load_s"][2] == pytest.approx(waits_s + 1e-4 + read_s, abs=1e-9)


def test_another_rack_cannot_read_the_pool_but_can_read_remote_drives() -> None:
    racks = ("cluster.simulate_gpus_per_rack=1", "cluster.simulate_racks=2", "cluster.network.gpus_per_host=1")
    pool = run(("eic",), *racks, per_host=1)
    assert ttft_s(pool)[1] == pytest.approx(COMPUTED_S, rel=1e-9)
    assert pool.tiers is not None
    assert pool.tiers.log.misses.elsewhere_tokens == HEAD
    drives = run(("ssd",), *racks, per_host=1)
    assert by_request(drives)["loaded_tokens"][1] == HEAD
    own = run(("ssd",), *racks, "cluster.ssd_scope=host", per_host=1)
    assert by_request(own)["loaded_tokens"][1] == 0


def test_what_is_computed_sooner_is_computed() -> None:
    slow = run(("ssd",), "cache.load_or_recompute=true", "hardware.ssd.read_gb_per_s=0.1")
    assert ttft_s(slow)[1] == pytest.approx(COMPUTED_S, rel=1e-9)
    assert slow.tiers is not None
    assert slow.tiers.log.misses.declined_tokens == HEAD
    fast = run(("ssd",), "cache.load_or_recompute=true")
    assert by_request(fast)["loaded_tokens"][1] == HEAD


def test_promotion_brings_a_chunk_to_the_first_tier() -> None:
    sets = ("cluster.ssd_scope=cluster", "cluster.network.remote_ssd_latency_us=0")
    for promotes in (True, False):
        own = run(("dram", "ssd"), f"cache.promote_on_hit={str(promotes).lower()}", *sets, per_host=1)
        assert own.tiers is not None
        assert own.tiers.hierarchy.traffic.promoted_chunks == (4 if promotes else 0)
        second = own.tiers.hierarchy.tiers["dram"][1]
        assert len(second) == second.stored == (4 if promotes else 0)  # its own backup is still under way at the end


LOADED_S = 1e-4 + HEAD * TOKEN_BYTES / (55 * GB)
"""From host memory."""
DRIVE_S = HEAD * TOKEN_BYTES / (0.1 * GB)
"""What slow drives take to read the head."""
SLOW = (
    f"hardware.dram.capacity_gb={8 * 256 * TOKEN_BYTES / GB + 0.001}",
    "hardware.ssd.read_gb_per_s=0.1",
    "cluster.ssd_scope=host",
)
"""Room for eight chunks in host memory."""


@pytest.mark.parametrize("late_s", [-0.01, 0.01])
def test_a_prefetch_takes_the_time_of_its_reading(late_s: float) -> None:
    # When the second turn has ended, half of the first pause later its head is brought up, which the filler displaced.
    begins_s = 10 + LOADED_S + 0.1 + 0.5 * (10 - COMPUTED_S)
    arrives_s = begins_s + 1e-4 + DRIVE_S
    rows = [
        Row(0.0, pieces=((0, HEAD), (-1, 100)), session_id=7),
        Row(10.0, pieces=((0, HEAD), (-2, 100)), session_id=7),
        Row(11.0, pieces=((-3, 2048),)),
        Row(arrives_s + late_s, pieces=((0, HEAD), (-4, 100)), session_id=7),
    ]
    system = run(("dram", "ssd"), "policies.prefetch=session", *SLOW, rows=rows, instances=8, per_host=8)
    expected_s = LOADED_S if late_s > 0 else DRIVE_S - late_s  # from the drives, behind the prefetch
    assert by_request(system)["tier_load_s"][3] == pytest.approx(expected_s, rel=1e-9)
    assert system.tiers is not None
    assert system.tiers.hierarchy.traffic.prefetched_chunks == 4


def test_what_is_promoted_is_there_once_it_has_been_read() -> None:
    def third_load_s(late_s: float) -> float:
        rows = [
            Row(0.0, pieces=((0, HEAD), (-1, 100))),
            Row(11.0, pieces=((-2, 2048),)),
            Row(20.0, pieces=((0, HEAD), (-3, 100))),
            Row(20.0 + 1e-4 + DRIVE_S + late_s, pieces=((0, HEAD), (-4, 100))),
        ]
        system = run(("dram", "ssd"), *SLOW, rows=rows, instances=8, per_host=8)
        return float(by_request(system)["tier_load_s"][3])

    assert third_load_s(0.01) == pytest.approx(LOADED_S, rel=1e-9)
    assert third_load_s(-0.01) == pytest.approx(DRIVE_S + 0.01, rel=1e-9)


def test_written_back_only_once_evicted_and_then_found() -> None:
    one = {"instances": 2, "per_host": 2}
    back = ("cache.write_policy=write_back", "engine.num_gpu_blocks_override=101")
    rows = [
        Row(0.0, pieces=((0, HEAD), (-1, 100))),
        Row(5.0, pieces=((-2, 100),)),
        Row(10.0, pieces=((-3, 1500),)),
        Row(20.0, pieces=((-4, 100),)),
        Row(30.0, pieces=((0, HEAD), (-5, 100))),
    ]
    system = run(("dram",), *back, rows=rows, **one)
    table = by_request(system)
    assert system.tiers is not None
    # 100 blocks: the third prompt takes 94, so 60 or so of the first one's 64 shared blocks are evicted from their end.
    dram = system.tiers.hierarchy.tiers["dram"][0]
    assert dram.stored > 0
    assert table["loaded_tokens"][4] > 0
    assert table["hit_tokens"][4] + table["loaded_tokens"][4] == HEAD
    never = run(("dram",), "cache.write_policy=write_back", rows=two(), **one)
    assert never.tiers is not None
    assert never.tiers.hierarchy.tiers["dram"][0].stored == 0


def test_an_exclusive_tier_lets_go_of_what_is_loaded() -> None:
    back = ("cache.write_policy=write_back", "engine.num_gpu_blocks_override=101", "cache.promote_on_hit=false")
    rows = [
        Row(0.0, pieces=((0, HEAD), (-1, 100))),
        Row(5.0, pieces=((-2, 100),)),
        Row(10.0, pieces=((-3, 1500),)),
        Row(20.0, pieces=((-4, 100),)),
        Row(30.0, pieces=((0, HEAD), (-5, 100))),
    ]
    kept = run(("dram",), *back, rows=rows)
    gone = run(("dram",), *back, "cache.inclusive=false", rows=rows)
    assert kept.tiers is not None and gone.tiers is not None
    assert gone.tiers.hierarchy.tiers["dram"][0].discarded > 0
    assert kept.tiers.hierarchy.tiers["dram"][0].discarded == 0


def test_drives_survive_a_restart() -> None:
    restart = ("cache.restart_after_requests=2", "cluster.ssd_scope=cluster")
    for tier, found in (("ssd", HEAD), ("dram", 0), ("eic", 0)):
        system = run((tier,), *restart, rows=two(), instances=2)
        assert by_request(system)["loaded_tokens"][1] == found, tier
        assert any("memory was lost" in note for note in system.notes)


def test_the_engines_caches_are_lost_in_a_restart_too() -> None:
    rows = [Row(5.0 * i, pieces=((0, HEAD), (-1 - i, 100))) for i in range(3)]
    alone = {"instances": 2, "rows": rows}
    table = by_request(run((), "cache.restart_after_requests=3", **alone))
    assert table["hit_tokens"][2] == 0
    assert by_request(run((), **alone))["hit_tokens"][2] == HEAD


def test_what_is_on_its_way_is_lost_in_a_restart() -> None:
    """The first prompt's chunks take 13 s to write; power is off by 4 s: the last one, elsewhere, finds none."""
    slow = ("cache.restart_after_requests=2", "hardware.dram.write_gb_per_s=0.01", "cache.max_write_wait_s=60")
    rows = [Row(float(i), pieces=((-1 - i, 100),), output_tokens=1) for i in (3, 4)]
    rows = [two(num=1)[0], *rows, Row(60.0, pieces=((0, HEAD), (-9, 100)), output_tokens=1)]
    for sets, loaded in ((slow[1:], HEAD), (slow, 0)):
        system = run(("dram",), *sets, rows=rows)
        assert by_request(system)["loaded_tokens"][3] == loaded
        assert system.tiers is not None
        misses = system.tiers.log.misses
        assert (misses.pending_tokens, misses.evicted_tokens) == (0, HEAD - loaded)  # gone, not on its way for ever


def test_what_engines_lose_in_a_restart_is_not_written_back() -> None:
    rows = [Row(5.0 * i, pieces=((0, HEAD), (-1 - i, 100))) for i in range(3)]
    back = ("cache.write_policy=write_back", "cache.restart_after_requests=3")
    system = run(("dram",), *back, rows=rows)
    assert system.tiers is not None
    assert system.tiers.hierarchy.traffic.backed_up_chunks == 0
    assert sum(connector.views[0].written_bytes for connector in system.tiers.hierarchy.connectors) == 0


def test_a_load_that_nobody_holds_blocks_for_is_lost_in_a_restart() -> None:
    """The head takes 1.3 s to load, for a prompt that has come; power is off after 1 s of that."""
    slow = ("cache.load_at=arrival", "hardware.dram.read_gb_per_s=0.1")
    rows = [*two(), Row(11.0, pieces=((-9, 100),))]
    for sets, loaded in ((slow, HEAD), ((*slow, "cache.restart_after_requests=3"), 0)):
        table = by_request(run(("dram",), *sets, rows=rows))
        assert (table["loaded_tokens"][1], table["computed_tokens"][1]) == (loaded, HEAD + 100 - loaded)


@pytest.mark.parametrize("contention", ["max_min", "fifo"])
def test_more_bandwidth_is_never_slower_in_a_single_queue(contention: str) -> None:
    """One instance with next to no cache of its own above each tier: prompts in turns, loads and writes between."""
    rows = [Row(0.3 * i, pieces=((i % 4, HEAD), (-1 - i, 60 + 40 * (i % 3)))) for i in range(24)]
    small = ("engine.num_gpu_blocks_override=90", f"cache.contention={contention}", "cluster.ssd_scope=host")
    rates = {
        "dram": ("hardware.dram.read_gb_per_s", "hardware.dram.write_gb_per_s", "hardware.dram.host_gb_per_s"),
        "eic": ("cluster.eic.read_gb_per_s", "cluster.eic.write_gb_per_s"),
        "ssd": ("hardware.ssd.read_gb_per_s", "hardware.ssd.write_gb_per_s"),
    }
    for tier, keys in rates.items():
        for key in keys:
            means = []
            for gb_per_s in (0.4, 0.8, 1.6, 10):  # loading is faster than computing
                system = run((tier,), *small, f"{key}={gb_per_s}", rows=rows, instances=2, per_host=2)
                means.append(float(ttft_s(system).mean()))
            assert means == sorted(means, reverse=True), (key, means)


def test_what_is_not_let_in_is_not_sent() -> None:
    """Of each head's four chunks two: the port carries no others, however often they are missed."""
    system = run(
        ("dram",), "policies.admission=selective_write", "policies.selective_write_depth_threshold=2", rows=two(num=4)
    )
    assert system.tiers is not None
    (tier,), view = system.tiers.hierarchy.tiers["dram"], system.tiers.hierarchy.connectors[0].views[0]
    others = system.tiers.hierarchy.connectors[1].views[0]
    chunk_bytes = system.tiers.hierarchy.rules.chunk_bytes
    assert tier.stored == 2
    assert tier.refused >= 2
    assert view.written_bytes + others.written_bytes == tier.stored * chunk_bytes


def test_what_was_refused_is_not_taken_for_being_written() -> None:
    """Half of each head is not let in, and computed again on the other instance long after."""
    halved = run(("dram",), "policies.admission=selective_write", "policies.selective_write_depth_threshold=2")
    assert halved.tiers is not None
    misses = halved.tiers.log.misses
    assert (misses.refused_tokens, misses.pending_tokens) == (HEAD // 2, 0)


def test_chunks_of_answers_are_written_unless_only_those_of_prompts_are() -> None:
    """A follow-up on another instance brings back the prompt and the answer that it is the follow-up of."""
    first = Row(0.0, pieces=((0, 500),), output_tokens=301, output_chain=1)
    later = Row(10.0, pieces=((0, 500), (1, 300), (-2, 100)), output_tokens=1)
    for written, loaded, stored, refused in (("true", 768, 3, 0), ("false", 256, 1, 2)):
        system = run(("dram",), f"cache.write_generated={written}", rows=[first, later])
        assert system.tiers is not None
        assert list(by_request(system)["loaded_tokens"]) == [0, loaded]
        (tier,) = system.tiers.hierarchy.tiers["dram"]
        assert (tier.stored, tier.refused) == (stored, refused)


@pytest.mark.parametrize(("scope", "loaded"), [("host", HEAD), ("instance", 0)])
def test_memory_is_the_hosts_or_an_instances_own(scope: str, loaded: int) -> None:
    system = run(("dram",), f"hardware.dram.scope={scope}")
    assert list(by_request(system)["loaded_tokens"]) == [0, loaded]
    assert system.tiers is not None
    assert len(system.tiers.hierarchy.tiers["dram"]) == (1 if loaded else 2)
    assert system.tiers.log.misses.elsewhere_tokens == HEAD - loaded


def test_what_no_port_had_time_for_is_said() -> None:
    """The filler occupies the drives for longer than a write may wait, so that the first head is never written."""
    shared = [Row(at_s, pieces=((0, HEAD), (-2 - int(at_s), 100))) for at_s in (3.1, 500.0)]
    rows = [Row(0.0, pieces=((-1, 4096),)), *shared]
    hurried = ("hardware.ssd.write_gb_per_s=0.01", "cache.max_write_wait_s=1", "cluster.ssd_scope=host")
    system = run(("ssd",), *hurried, rows=rows, instances=3, per_host=3)
    assert system.tiers is not None
    assert system.tiers.log.misses.refused_tokens == HEAD
    (note,) = said_of(system)
    assert note.startswith("4 chunks were not written to ssd: ")


def test_a_pool_that_one_host_has_to_itself_is_said_to_give_nothing() -> None:
    for per_host, said in ((2, 1), (1, 0)):
        system = run(("dram", "eic"), per_host=per_host)
        assert system.tiers is not None
        notes = said_of(system)
        assert len(notes) == said
        assert all(note.startswith("each rack has one host here") for note in notes)


def test_a_restart_that_does_not_come_is_said() -> None:
    (note,) = run(("dram",), "cache.restart_after_requests=3").notes
    assert note == "cache.restart_after_requests = 3: 2 came, and nothing was lost"


def test_an_oversubscribed_uplink_is_part_of_the_way_to_other_racks() -> None:
    """Of two racks of one GPU each the head lies in the other one: over a hundredth of its NICs."""
    racks = ("cluster.simulate_gpus_per_rack=1", "cluster.simulate_racks=2", "cluster.network.gpus_per_host=1")
    for times in (1, 100):
        system = run(("ssd",), *racks, f"cluster.network.rack_oversubscription={times}", per_host=1)
        expected_s = 1e-4 + 200e-6 + 15e-6 + HEAD * TOKEN_BYTES / (50 * GB / times)
        assert by_request(system)["tier_load_s"][1] == pytest.approx(expected_s, rel=1e-9)


def test_chains_on_drives_of_their_own_are_read_at_the_same_time() -> None:
    """Two halves of a head, each another prompt's too, from one drive one after the other, from several at once."""
    rows = [Row(10.0 * i, pieces=((0, HEAD // 2), (1 + i % 2, HEAD // 2), (-1 - i, 100))) for i in range(3)]
    slow = ("hardware.ssd.read_gb_per_s=0.1", "cluster.simulate_gpus_per_rack=8")
    half_s = HEAD // 2 * TOKEN_BYTES / (0.1 * GB)
    for scope, drives in (("cluster", 8), ("host", 1)):
        hosts = 1 if drives > 1 else 8
        sets = (*slow, f"cluster.ssd_scope={scope}")
        load_s = by_request(run(("ssd",), *sets, rows=rows, instances=8, per_host=hosts))["tier_load_s"][2]
        assert load_s == pytest.approx(half_s if drives > 1 else 2 * half_s, rel=1e-2), scope


def test_jitter_stretches_loads_over_the_network() -> None:
    tail = ("cluster.network.tail_jitter_prob=1", "cluster.network.tail_jitter_multiplier=3")
    pool, slow = (by_request(run(("eic",), *sets))["tier_load_s"][1] for sets in ((), tail))
    assert slow == pytest.approx(3 * pool, rel=1e-9)
    assert by_request(run(("dram",), *tail))["tier_load_s"][1] == pytest.approx(LOADS["dram"][1], rel=1e-9)


def test_without_contention_loads_share_the_network_unseen() -> None:
    rows = [*two(num=1), *(Row(10.0, pieces=((0, HEAD), (-2 - i, 100)), output_tokens=1) for i in range(4))]
    same = ("cluster.eic.read_gb_per_s=1e6",)
    for seen, times in ((True, 2), (False, 1)):
        network = f"cluster.network.contention_enabled={str(seen).lower()}"
        system = run(("eic",), *same, network, "engine.max_num_seqs=1", rows=rows, instances=2)
        each_s = HEAD * TOKEN_BYTES / (50 * GB)
        assert max(by_request(system)["tier_load_s"]) == pytest.approx(5e-6 + times * each_s, rel=1e-3)


def test_ports_that_nobody_waits_for_are_no_bottleneck() -> None:
    rows = [*two(num=1), *(Row(10.0, pieces=((0, HEAD), (-2 - i, 100)), output_tokens=1) for i in range(40))]
    unseen = ("cluster.network.contention_enabled=false", "cluster.network.p2p_rdma_gb_per_s=0.05")
    result = outcome(run(("eic",), *unseen, rows=rows), warmup_requests=0, unsteady_factor=0.0)
    assert result.cache.tiers[0].busiest_share < 0.1


def test_prefill_instances_of_another_degree_have_their_own_ways() -> None:
    degrees = ("pd_separation.prefill_tensor_parallel_size=2", "pd_separation.tiers=[dram, eic]")
    small = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "cluster.simulate_racks=1")
    config = load_config(sets=(*small, *degrees)).config
    own = make_plan(config)
    system = PdSystem(own, workload(two()), 0)
    assert system.tiers is not None
    dram, pool = (view.routes.read(0)[0] for view in system.tiers.hierarchy.connectors[0].views)
    assert pool.bytes_per_s == own.prefill.nic_bytes_per_s == 2 * own.colocated.nic_bytes_per_s
    assert dram.bytes_per_s == 2 * config.hardware.dram.read_gb_per_s * GB


def test_a_router_does_not_send_prompts_to_a_tier_that_is_busy_for_longer_than_computing_takes() -> None:
    """The head lies in the drives of host 0, which are free, busy for 5 s, or as slow as computing."""
    fillers = [Row(10.0 * i, pieces=((-1 - i, 1590),), output_tokens=1) for i in (1, 2, 3)]
    rows = [Row(0.0, pieces=((0, HEAD), (-1, 100))), *fillers, Row(40.0, pieces=((0, HEAD), (-9, 100)))]
    sets = ("routing.prefill=affinity", "engine.num_gpu_blocks_override=101", "cluster.ssd_scope=host")
    slow = f"hardware.ssd.read_gb_per_s={TOKEN_BYTES / TOKEN_S / GB}"
    for busy_until_s, rate, loaded in ((0.0, (), HEAD), (45.0, (), 0), (0.0, (slow,), 0)):
        own = tiered(("ssd",), *sets, *rate, instances=3, per_host=1)
        system = UnifiedSystem(own, workload(rows), 0)
        assert system.tiers is not None
        port = system.tiers.hierarchy.ports["ssd"][0]

        def occupy(_: object, port: Port = port, until_s: float = busy_until_s) -> None:
            port.free_s = max(port.free_s, until_s)

        system.clock.schedule(39.0, callback=occupy)
        system.run()
        assert by_request(system)["loaded_tokens"][4] == loaded


def test_a_router_knows_what_was_written_until_now() -> None:
    """Evicted to host 0 and asked for long after, while nobody looked at its memory in between."""
    rows = [Row(0.0, pieces=((0, HEAD), (-1, 100)), output_tokens=1)]
    rows += [Row(10.0 * i, pieces=((-1 - i, 1590),), output_tokens=1) for i in (1, 2, 3)]
    rows += [Row(100.0, pieces=((0, HEAD), (-9, 100)), output_tokens=1)]
    back = ("cache.write_policy=write_back", "routing.prefill=affinity", "engine.num_gpu_blocks_override=101")
    assert by_request(run(("dram",), *back, rows=rows, instances=3, per_host=1))["loaded_tokens"][4] == HEAD


@pytest.mark.parametrize("sees", [True, False])
def test_a_router_sends_prompts_to_where_their_heads_can_be_loaded(sees: bool) -> None:
    """The head is out of its instance's cache after a prompt that takes all of it, and in that host's memory alone."""
    fillers = [Row(10.0 * i, pieces=((-1 - i, 1590),), output_tokens=1) for i in (1, 2, 3)]
    rows = [Row(0.0, pieces=((0, HEAD), (-1, 100))), *fillers, Row(40.0, pieces=((0, HEAD), (-9, 100)))]
    sets = ("routing.prefill=affinity", "engine.num_gpu_blocks_override=101", f"routing.sees_tiers={str(sees).lower()}")
    last = by_request(run(("dram",), *sets, rows=rows, instances=3, per_host=1))
    assert last["loaded_tokens"][4] == (HEAD if sees else 0)


def test_writing_back_costs_no_step_a_backup() -> None:
    waits = ("cache.async_backup=false", "cache.write_policy=write_back")
    assert ttft_s(run(("dram",), *waits)) == pytest.approx(ttft_s(run(("dram",), waits[1])), rel=1e-12)


def test_tiers_that_nothing_can_be_loaded_from_or_that_two_racks_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="enable_prefix_caching"):
        run(("dram",), "engine.enable_prefix_caching=false")
    straddling = ("cluster.simulate_racks=2", "cluster.simulate_gpus_per_rack=3")
    with pytest.raises(ConfigError, match="stands within one rack"):
        run(("dram",), *straddling, instances=6)


def test_a_step_waits_for_its_backup_where_that_is_not_asynchronous() -> None:
    waits = ttft_s(run(("dram",), "cache.async_backup=false"))[0] - ttft_s(run(("dram",)))[0]
    assert waits == pytest.approx((HEAD + 100) * TOKEN_BYTES / (55 * GB), rel=1e-9)


def test_prefill_instances_load_from_tiers_too() -> None:
    base = ("routing.prefill=round_robin", "cache.load_or_recompute=false", "cluster.network.gpus_per_host=3")
    own = replace(plan(2, 1, sets=base, times=TIMES, nic_bytes_per_s=50 * GB), tiers=("dram",))
    system = served(PdSystem, own, workload(two()))
    assert not laws(system)
    table = by_request(system)
    assert list(table["loaded_tokens"]) == [0, HEAD]
    assert table["tier_load_s"][1] == pytest.approx(LOADS["dram"][1], rel=1e-9)


def answered(system: type[UnifiedSystem] | type[PdSystem], policy: str, *between: Row) -> list[float]:
    """Tokens loaded and cached of a prompt that begins with one of 1,024 tokens and its answer of 512, whose last token
    has no KV: five chunks in all. Their blocks were evicted by others of 2,000."""
    others = [Row(60.0 + 20 * i, 2000) for i in range(2)]
    rows = [Row(0.0, 0, 512, ((0, HEAD),), 0), *between, *others, Row(200.0, 0, 1, ((0, HEAD + 512), (-9, 64)))]
    found = replace(tiered(("dram",), f"cache.write_policy={policy}", num_blocks=140), num_instances=1)
    run = served(system, found, workload(rows))
    assert not laws(run)
    table = by_request(run)
    return [table["loaded_tokens"][-1], table["hit_tokens"][-1]]


@pytest.mark.parametrize("policy", ["write_through", "write_back"])
def test_answers_reach_the_tiers_of_prefill_instances_as_those_of_unified_ones(policy: str) -> None:
    assert answered(UnifiedSystem, policy) == [5 * 256, 0]
    assert answered(PdSystem, policy) == [5 * 256, 0]


def test_an_answer_that_finds_its_prompt_evicted_reaches_no_tier() -> None:
    """Decoding takes half a second, and another prompt comes meanwhile: chunks of answers begin where prompts end."""
    assert answered(PdSystem, "write_through", Row(1.2, 2000), Row(1.3, 2000)) == [4 * 256, 0]


def test_a_tier_that_holds_no_chunk_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hardware\.dram\.capacity_gb: 0\.01 GB hold no chunk of 256 tokens"):
        run(("dram",), "hardware.dram.capacity_gb=0.01")


rows_of = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 3), st.integers(0, 40), st.integers(1, 400), st.integers(1, 60)),
    min_size=1,
    max_size=14,
)
BUSY = ("hardware.dram.host_gb_per_s=0.01", "hardware.ssd.read_gb_per_s=0.02", "cluster.eic.write_gb_per_s=0.005")
moves = st.sampled_from(
    (
        (),
        ("cache.write_policy=write_back",),
        ("cache.write_policy=write_back", "cache.inclusive=false"),
        ("cache.promote_on_hit=false", "policies.eviction=fifo"),
        ("policies.eviction=s3fifo", "policies.prefetch=next_block"),
        ("policies.admission=second_hit",),
        ("policies.eviction=belady",),
        ("cache.restart_after_requests=5", "policies.eviction=arc"),
        ("cache.load_at=arrival",),
        ("cache.prefix_cache=radix",),
        ("engine.async_scheduling=true",),
        ("engine.scheduler_reserve_full_isl=false", "engine.scheduling_policy=lpm"),
        ("engine.scheduling_policy=priority", "hardware.dram.host_gb_per_s=0.001"),
        ("hardware.dram.host_gb_per_s=0.001", "cluster.eic.read_gb_per_s=0.001"),
        ("hardware.dram.host_gb_per_s=0.001", "cache.contention=max_min"),
        ("cache.contention=max_min", *BUSY, "cache.load_or_recompute=false"),
        ("cache.contention=max_min", *BUSY, "cache.write_policy=write_back"),
        ("cache.write_policy=write_back", *BUSY),
    )
)


LATE = [
    (0.0, 0, 9, 1, 1), (0.0, 0, 0, 1, 1), (0.0, 1, 27, 256, 1), (1.0, 0, 0, 1, 1), (0.0, 2, 10, 117, 60),
    (0.0, 0, 0, 1, 1), (0.0, 0, 0, 117, 60), (0.0, 0, 0, 1, 1), (0.0, 0, 0, 53, 60), (1.0, 0, 0, 1, 1),
    (0.0, 0, 10, 141, 31), (0.1875, 0, 0, 1, 1), (0.0, 1, 27, 1, 1),
]  # fmt: skip
"""One engine evicts while answers grow what another one asks for soon."""


@settings(max_examples=60)
@example(rows=LATE, moves=("cache.write_policy=write_back",), tiers=("dram",))
@given(rows=rows_of, moves=moves, tiers=st.sampled_from((("dram",), ("dram", "eic", "ssd"), ("eic",))))
def test_laws_hold_and_leaps_equal_single_steps(rows: list, moves: tuple[str, ...], tiers: tuple[str, ...]) -> None:
    gaps = np.cumsum([gap for gap, *_ in rows])
    made = [
        Row(float(at), pieces=((chain, 16 * blocks + 16), (-1 - i, own)), output_tokens=out, session_id=chain)
        for i, (at, (_, chain, blocks, own, out)) in enumerate(zip(gaps, rows, strict=True))
    ]
    sets = ("cache.chunk_tokens=32", "hardware.dram.capacity_gb=0.05", "cluster.eic.capacity_per_node_gb=0.02", *moves)
    own = tiered(tiers, *sets, "engine.num_gpu_blocks_override=90")
    leaping = served(UnifiedSystem, own, workload(made))
    assert not laws(leaping)
    single = own.with_settings("colocated", stepwise=True)
    stepping = served(UnifiedSystem, single, workload(made))
    table = by_request(leaping)
    assert table["finish_s"] == pytest.approx(by_request(stepping)["finish_s"], rel=1e-9)
    known = table["hit_tokens"] + table["loaded_tokens"] + table["computed_tokens"]
    assert list(known) == list(table["prompt_tokens"])
    assert leaping.tiers is not None and stepping.tiers is not None
    assert leaping.tiers.log.misses == stepping.tiers.log.misses


def test_the_result_tells_of_tiers() -> None:
    system = run(("dram", "eic", "ssd"))
    result = outcome(system, warmup_requests=0, unsteady_factor=0.0)
    assert [tier.name for tier in result.cache.tiers] == ["dram", "eic", "ssd"]
    dram = result.cache.tiers[0]
    assert dram.loaded_tokens == HEAD
    assert dram.read_bytes == HEAD * TOKEN_BYTES
    assert dram.stored_chunks == 4
    assert result.cache.active_instances == 2
    assert all(check.ok for check in result.checks)
    asked = sum(by_request(system)["prompt_tokens"])
    assert sum(result.cache.misses.values()) + HEAD == asked
