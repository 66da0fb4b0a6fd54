"""What a run keeps where it is asked: it changes nothing, agrees with the run's own books, leaping or step by step."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, coefficients, plan, stepwise, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim import room
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan
from kvsim.record.detail import HELD, QUEUED, TRANSFER_KINDS, Detail
from kvsim.record.result import SystemResult
from kvsim.sim.log.detail import BINS, Levels, Rows
from kvsim.sim.outcome import outcome
from kvsim.sim.run import Case, run
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

SYSTEMS = (UnifiedSystem, PdSystem)


def kept(found: Plan, requests: Workload, system: str = "unified") -> tuple[SystemResult, Detail]:
    result = run(Case(system, system, found, requests, 1, keeps_detail=True)).system
    assert result.detail is not None and all(check.ok for check in result.checks)
    return result, result.detail


def closely(system: type[UnifiedSystem] | type[PdSystem], found: Plan, requests: Workload) -> Detail:
    """The detail of a run that is otherwise the one without, and that agrees with the books."""
    bare = system(found, requests, 1)
    bare.run()
    looked_at = system(found, requests, 1, keeps_detail=True)
    looked_at.run()
    assert looked_at.clock.num_events == bare.clock.num_events
    result = outcome(looked_at, warmup_requests=0, unsteady_factor=0.0)
    assert not [check for check in result.checks if not check.ok]
    table, detail, engines = result.table, result.detail, looked_at.engines()
    assert detail is not None
    gaps = (table["output_tokens"] - 1).sum()
    assert detail.steps["later_tokens"].sum() + len(detail.gaps["interval_s"]) == gaps
    assert _itl_s(detail) == pytest.approx((table["finish_s"] - table["first_token_s"]).sum(), rel=1e-9, abs=1e-9)
    assert detail.steps["query_tokens"].sum() == sum(engine.scheduler.query_tokens for engine in engines)
    assert detail.steps["hit_tokens"].sum() == sum(engine.scheduler.hit_tokens for engine in engines)
    if not table["preemptions"].any():
        assert detail.steps["prefill_tokens"].sum() == table["computed_tokens"].sum()
    if isinstance(looked_at, PdSystem):
        assert detail.transfers["bytes"].sum() == pytest.approx(looked_at.network.bytes_received)
    return detail


def _itl_s(detail: Detail) -> float:
    """All inter-token latencies together: sequences apart from their steps in the first of a span's alone."""
    steps = detail.steps
    decoded = steps["decode_seqs"] * steps["num_steps"]
    span_s = steps["end_s"] - steps["start_s"]
    first_s = np.where(steps["num_steps"] > 1, steps["first_step_s"], span_s)
    apart = decoded - steps["later_tokens"]
    return float((steps["decode_seqs"] * span_s - apart * first_s).sum() + detail.gaps["interval_s"].sum())


@given(st.randoms(use_true_random=False))
def test_what_is_kept_agrees_with_the_books_both_ways(rng: Random) -> None:
    found, requests = random_case(rng)
    for system in SYSTEMS:
        leaping, stepping = (closely(system, way, requests) for way in (found, stepwise(found)))
        assert leaping.bin_s == stepping.bin_s
        np.testing.assert_allclose(leaping.levels, stepping.levels, rtol=1e-9, atol=1e-9)
        peaks = [[facts.peak_kv_blocks for facts in detail.instances] for detail in (leaping, stepping)]
        assert peaks[0] == peaks[1]
        assert set(stepping.steps["num_steps"]) <= {1.0}
        for name in ("num_steps", "prefill_tokens", "output_tokens", "kv_tokens", "query_tokens"):
            assert leaping.steps[name].sum() == stepping.steps[name].sum(), name
        running_s = [
            ((detail.steps["end_s"] - detail.steps["start_s"]) * detail.steps["running"]).sum()
            for detail in (leaping, stepping)
        ]
        assert running_s[0] == pytest.approx(running_s[1])


def test_steps_of_two_requests() -> None:
    """The second comes while the first decodes, whose leap it cuts: it waits for the end of the step under way."""
    found = plan(block_size=4, num_blocks=100, max_num_batched_tokens=100)
    found = replace(found, num_instances=1)
    _, detail = kept(found, workload([Row(0.0, 8, 5), Row(2.5, 6, 2)]))
    steps = detail.steps
    assert steps["start_s"].tolist() == [0.0, 1.0, 3.0, 4.0]
    assert steps["num_steps"].tolist() == [1, 2, 1, 1]
    assert steps["prefill_tokens"].tolist() == [8, 0, 6, 0]
    assert steps["decode_seqs"].tolist() == [0, 1, 1, 2]
    assert steps["output_tokens"].tolist() == [1, 2, 2, 2]
    assert steps["later_tokens"].tolist() == [0, 2, 1, 2]
    assert steps["kv_tokens"].tolist() == [0, 9 + 10, 11, 12 + 7]
    assert steps["running"].tolist() == [1, 1, 2, 2]
    assert steps["kv_blocks"].tolist() == [2, 3, 5, 5]
    chunks = {name: column.tolist() for name, column in detail.chunks.items()}
    assert chunks == {"request_id": [0, 1], "step": [0, 2], "before": [0, 0], "tokens": [8, 6]}
    waited_s, held = detail.levels[QUEUED].sum(), detail.levels[HELD].sum()
    assert (waited_s, held) == (pytest.approx(0.5), pytest.approx(2 + 3 + 3 + 5 + 5))
    assert detail.instances[0].peak_kv_blocks == 5


def test_transfers_and_what_came_of_them() -> None:
    """1,000 bytes a token over 1 MB/s: the transfer of 8 tokens takes 8 ms."""
    result, detail = kept(plan(1, 1, block_size=4, num_blocks=100), workload([Row(0.0, 8, 2)]), "pd")
    row = {name: column.tolist() for name, column in detail.transfers.items()}
    assert row["start_s"] == [1.0] and row["end_s"] == [pytest.approx(1.008)]
    assert (row["bytes"], row["source"], row["target"]) == ([8000.0], [0.0], [1.0])
    assert TRANSFER_KINDS[int(row["kind"][0])] == "prompt"
    assert [facts.role for facts in detail.instances] == ["prefill", "decode"]
    assert result.transfer is not None and result.transfer.bytes_sent == 8000.0


def test_loads_from_a_tier() -> None:
    sets = ("cluster.network.gpus_per_host=2", "routing.prefill=round_robin", "cache.load_or_recompute=false")
    found = plan(1, 1, sets=sets, times=coefficients(p1_s_per_token=1e-3), nic_bytes_per_s=50e9)
    rows = [Row(10.0 * i, pieces=((0, 1024), (-1 - i, 100)), output_tokens=1) for i in range(2)]
    result, detail = kept(replace(found, num_instances=2, tiers=("dram",)), workload(rows))
    table, loads = result.table, detail.loads
    assert (loads["request_id"].tolist(), loads["tokens"].tolist(), loads["instance"].tolist()) == ([1], [1024], [1])
    assert loads["start_s"].tolist() == [10.0]
    assert loads["end_s"][0] - loads["start_s"][0] == pytest.approx(table["tier_load_s"][1], rel=1e-9)
    assert loads["bytes"].sum() == pytest.approx(result.cache.tiers[0].read_bytes)
    assert detail.tiers == ("dram",)
    assert {name: column.tolist() for name, column in detail.served.items()} == {
        "request_id": [1],
        "tier": [0],
        "tokens": [1024],
    }


def test_levels_do_not_grow_with_the_run() -> None:
    levels = Levels()
    levels.instances = 2
    for second in range(20_000):
        levels.add(HELD, 1, second, second + 0.5, 4)
        levels.add(QUEUED, 0, second, second + 1.0, second % 2)
    found = levels.table(20_000.0)
    assert BINS / 2 < found.shape[2] <= BINS
    assert (found[HELD, 1].sum(), found[QUEUED, 0].sum()) == (pytest.approx(40_000), pytest.approx(10_000))
    assert not found[HELD, 0].any() and not found[QUEUED, 1].any()
    np.testing.assert_allclose(found[HELD, 1, :-1] / levels.bin_s, 2.0, rtol=0.05)


def test_no_room_for_more_steps_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(("a",))
    monkeypatch.setattr(room, "available_bytes", lambda: 1000.0)
    with pytest.raises(CapacityError, match=r"keeping more than 65,536 rows of the run's steps or transfers: about"):
        for _ in range(70_000):
            rows.add((1.0,))
