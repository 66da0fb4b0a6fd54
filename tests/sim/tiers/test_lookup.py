"""When prompts are looked up in tiers, and what their loading holds: every time equals a calculation by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import Row, by_request, coefficients, plan, served, workload

from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.sim.tiers.use import tier_checks
from kvsim.steptime import Coefficients

GB = 1e9
TOKEN_S = 1e-3
TOKEN_BYTES = 131_072
HEAD = 768
"""Three chunks of 256 tokens, 48 blocks."""
LOADED_S = 1e-4 + HEAD * TOKEN_BYTES / (55 * GB)
"""From host memory."""
SECOND = f"hardware.dram.host_gb_per_s={HEAD * TOKEN_BYTES / GB}"
"""So slow that a head takes a second."""
ARRIVAL = "cache.load_at=arrival"


def own(i: int, tokens: int) -> tuple[int, int]:
    """A piece of a prompt that no other has."""
    return -1 - i, tokens


def run(
    rows: list[Row], *sets: str, instances: int = 2, times: Coefficients | None = None, **engine: object
) -> UnifiedSystem:
    """Instances of one host, requests in turn: even ones of two on the first."""
    base = ("cluster.network.gpus_per_host=8", "routing.prefill=round_robin", "cache.load_or_recompute=false")
    times = times or coefficients(p1_s_per_token=TOKEN_S)
    found = plan(1, instances - 1, sets=(*base, *sets), times=times, **engine)
    system = served(UnifiedSystem, replace(found, num_instances=instances, tiers=("dram",)), workload(rows))
    assert system.tiers is not None
    assert all(law.ok for law in tier_checks(system.tiers, system.requests.table()))
    assert not any(engine.scheduler.loaded or engine.scheduler.loading for engine in system.prefill_engines)
    return system


def lost_tokens(system: UnifiedSystem | PdSystem) -> int:
    assert system.tiers is not None
    return system.tiers.hierarchy.traffic.lost_tokens


QUEUED = [
    Row(0.0, pieces=((0, HEAD), own(0, 100))),
    Row(0.1, pieces=(own(1, 5000),)),
    Row(0.2, pieces=(own(2, 100),)),
    Row(0.5, pieces=((0, HEAD), own(3, 100))),
]
"""The last one waits for the second until 5.1 s; when it came, nothing of its head was computed."""


def test_a_prompt_is_looked_up_when_it_is_to_be_computed() -> None:
    table = by_request(run(QUEUED, max_num_seqs=1))
    assert table["loaded_tokens"][3] == HEAD
    assert table["queue_s"][3] == pytest.approx(5.1 - 0.5, rel=1e-9)
    assert table["tier_load_s"][3] == pytest.approx(LOADED_S, rel=1e-9)
    assert table["first_token_s"][3] == pytest.approx(5.1 + LOADED_S + 0.1, rel=1e-9)


def test_or_when_it_comes() -> None:
    system = run(QUEUED, ARRIVAL, max_num_seqs=1)
    assert by_request(system)["loaded_tokens"][3] == 0
    assert system.tiers is not None
    assert system.tiers.log.misses.pending_tokens == HEAD


@pytest.mark.parametrize("sets", [(), (ARRIVAL,), ("cache.prefix_cache=radix",), ("cache.prefix_cache=radix", ARRIVAL)])
def test_an_idle_engine_loads_at_once(sets: tuple[str, ...]) -> None:
    rows = [Row(10.0 * i, pieces=((0, HEAD), own(i, 100))) for i in range(2)]
    table = by_request(run(rows, *sets))
    assert list(table["loaded_tokens"]) == [0, HEAD]
    assert table["first_token_s"][1] == pytest.approx(10 + LOADED_S + 0.1, rel=1e-9)


def test_who_is_loaded_lets_others_pass_and_comes_back_to_its_place() -> None:
    """The head comes in a second, the next prompt takes two, and what came after both waits for them."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 100))),
        Row(10.0, pieces=((0, HEAD), own(1, 100))),
        Row(10.0, pieces=(own(2, 16),)),
        Row(10.0, pieces=(own(3, 2000),)),
        Row(10.0, pieces=(own(4, 16),)),
        Row(10.5, pieces=(own(5, 100),)),
    ]
    firsts_s = by_request(run(rows, SECOND, max_num_seqs=1))["first_token_s"]
    assert firsts_s[3] == pytest.approx(12.0, rel=1e-6)
    assert firsts_s[1] == pytest.approx(12.1, rel=1e-6)
    assert firsts_s[5] == pytest.approx(12.2, rel=1e-6)


SMALL = ("engine.num_gpu_blocks_override=101",)
"""A hundred blocks of 16 tokens."""


def test_blocks_are_held_while_they_are_filled() -> None:
    """The head holds 48 of 100 blocks from 10 s on, so that 53 are not to be had before its prompt is done."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 100))),
        Row(10.0, pieces=((0, HEAD), own(1, 100))),
        Row(10.1, pieces=(own(2, 100),)),
        Row(10.2, pieces=(own(3, 53 * 16),)),
    ]
    firsts_s = by_request(run(rows, SECOND, *SMALL))["first_token_s"]
    assert firsts_s[1] == pytest.approx(11.1001, rel=1e-9)
    assert firsts_s[3] == pytest.approx(11.1001 + 53 * 16 * TOKEN_S, rel=1e-9)
    assert by_request(run(rows, SECOND, *SMALL, ARRIVAL))["first_token_s"][3] == pytest.approx(10.2 + 53 * 16 * TOKEN_S)


def test_two_that_were_loaded_do_not_lock_each_other_out() -> None:
    """Each holds 48 of 100 blocks, and the first needs 30 more: the second gives way, and is computed after it."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 100))),
        Row(0.0, pieces=(own(1, 16),)),
        Row(2.0, pieces=((1, HEAD), own(2, 100))),
        Row(10.0, pieces=((0, HEAD), own(3, 480))),
        Row(10.0, pieces=(own(4, 16),)),
        Row(10.0, pieces=((1, HEAD), own(5, 64))),
    ]
    system = run(rows, *SMALL)
    firsts_s = by_request(system)["first_token_s"]
    assert firsts_s[3] == pytest.approx(10 + 2 * LOADED_S - 1e-4 + 0.48, rel=1e-6)
    assert firsts_s[5] > firsts_s[3]
    assert lost_tokens(system) > 0


def test_prefill_instances_hold_blocks_too() -> None:
    """Three heads that the other instance has computed, at once where there is room for one and most of another."""
    base = ("routing.prefill=round_robin", "cache.load_or_recompute=false", "cluster.network.gpus_per_host=3")
    times = coefficients(p1_s_per_token=TOKEN_S)
    own_plan = replace(plan(2, 1, sets=(*base, *SMALL), times=times, nic_bytes_per_s=50 * GB), tiers=("dram",))
    rows = []
    for i in range(6):
        at_s = 2.0 * i if i < 3 else 20.0
        head = Row(at_s, pieces=((i % 3, HEAD), own(2 * i, 100)), output_tokens=8)
        filler = Row(at_s, pieces=(own(2 * i + 1, 16),))
        rows += [head, filler] if i < 3 else [filler, head]
    system = served(PdSystem, own_plan, workload(rows))
    assert system.tiers is not None
    assert by_request(system)["loaded_tokens"].sum() == 3 * HEAD
    assert lost_tokens(system) == 0
    assert all(law.ok for law in tier_checks(system.tiers, system.requests.table()))


def test_a_prompt_that_needs_room_for_its_first_chunk_alone_is_looked_up_once_all_of_it_fits() -> None:
    """60 of 100 blocks are taken until 10.46 s, and the prompt has 55."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 100))),
        Row(9.5, pieces=(own(1, 60 * 16),)),
        Row(9.5, pieces=(own(2, 16),)),
        Row(9.6, pieces=((0, HEAD), own(3, 100))),
    ]
    table = by_request(run(rows, *SMALL, "engine.scheduler_reserve_full_isl=false", max_num_batched_tokens=512))
    assert table["loaded_tokens"][3] == HEAD
    assert table["first_token_s"][3] == pytest.approx(10.46 + LOADED_S + 0.1, rel=1e-9)


def test_a_prompt_that_the_budget_does_not_reach_is_not_looked_up_yet() -> None:
    """Without chunks it waits for the step in which it fits as a whole; its head is written long after it came."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 100))),
        Row(0.0, pieces=(own(1, 16),), output_tokens=11),
        Row(0.1, pieces=(own(2, 16),)),
        Row(0.1, pieces=((0, HEAD), own(3, 100))),
    ]
    slow = {"times": coefficients(p1_s_per_token=TOKEN_S, const_s=1.0)}
    table = by_request(run(rows, **slow, enable_chunked_prefill=False, max_num_batched_tokens=HEAD + 100))
    assert table["loaded_tokens"][3] == HEAD


@pytest.mark.parametrize("kind", ["radix", "priority"])
def test_who_comes_back_behind_a_blocked_head_may_make_it_fit(kind: str) -> None:
    """Leaps end then: the head shares what was loaded, or what two loaded twice is freed."""
    decoding, last = (400, 16) if kind == "priority" else (16, 600)
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 16))),
        Row(9.0, pieces=(own(1, decoding),), output_tokens=1000),
        Row(9.5, pieces=(own(2, 16),)),
        Row(10.0, pieces=((0, HEAD), own(3, last)), priority=1),
        Row(10.0, pieces=(own(4, 16),)),
        Row(10.2 if kind == "priority" else 10.0, pieces=((0, HEAD), own(5, 16)), priority=0),
    ]
    sets = {"radix": ("cache.prefix_cache=radix", "engine.num_gpu_blocks_override=131")}
    sets["priority"] = ("engine.scheduling_policy=priority", "engine.num_gpu_blocks_override=116")
    times = coefficients(p1_s_per_token=TOKEN_S, const_s=0.01)
    single, leaping = (run(rows, SECOND, *sets[kind], times=times, stepwise=alone) for alone in (True, False))
    assert by_request(leaping)["first_token_s"] == pytest.approx(by_request(single)["first_token_s"], rel=1e-9)


@pytest.mark.parametrize(("last", "sets"), [((1, HEAD), ()), (own(7, HEAD), ("cache.restart_after_requests=7",))])
def test_what_changes_a_cache_beside_a_leap_may_let_the_head_of_the_queue_in(
    last: tuple[int, int], sets: tuple[str, ...]
) -> None:
    """The head waits for 38 free blocks beside the 16 that it would hit, and there are 33. What is loaded for another
    takes those 16 from it, or they are lost, so that it hits nothing and its first chunk has room.
    """
    rows = [
        Row(0.0, pieces=((0, 256), own(0, 16))),
        Row(0.0, pieces=((1, HEAD), own(1, 16))),
        Row(10.0, pieces=(own(2, 800),), output_tokens=30),
        Row(10.0, pieces=(own(3, 16),)),
        Row(20.0, pieces=((0, 256), own(4, 640))),
        Row(20.0, pieces=(own(5, 16),)),
        Row(20.5, pieces=(last, own(6, 16))),
    ]
    sets = (ARRIVAL, "engine.scheduler_reserve_full_isl=false", *SMALL, *sets)
    how = {"times": coefficients(const_s=1.0), "max_num_batched_tokens": 600}
    leaping, single = (by_request(run(rows, *sets, **how, stepwise=alone)) for alone in (False, True))
    assert single["preemptions"][4] > 0
    for name in ("preemptions", "first_token_s", "finish_s", "hit_tokens", "computed_tokens"):
        assert list(leaping[name]) == list(single[name]), name


def test_of_engines_whose_steps_end_at_one_instant_the_first_goes_first() -> None:
    """Each wants at 10 s what the other has computed; the second is told of it first, and its leap cut first."""
    rows = [
        Row(0.0, pieces=((0, HEAD), own(0, 16)), output_tokens=90),
        Row(0.0, pieces=((1, HEAD), own(1, 16)), output_tokens=90),
        Row(2.0, pieces=(own(2, 16),)),
        Row(9.5, pieces=((0, HEAD), own(3, 16))),
        Row(9.5, pieces=((1, HEAD), own(4, 16))),
    ]
    for alone in (False, True):
        loads_s = by_request(run(rows, SECOND, times=coefficients(const_s=1.0), stepwise=alone))["tier_load_s"]
        assert loads_s[3:] == pytest.approx([2.0, 1.0], rel=1e-3)
