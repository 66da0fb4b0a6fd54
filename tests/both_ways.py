"""Random small systems, and whether one that leaps over steps ends as one that takes each of them."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from builders import by_request, check, coefficients, plan, stepwise, workload
from traffic import most_blocks, random_rows

from kvsim.plan.plan import Plan
from kvsim.sim.log.steps import StepLog
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import Coefficients
from kvsim.workload.workload import Workload

EQUAL_COUNTS = (
    "hit_tokens",
    "loaded_tokens",
    "computed_tokens",
    "recomputed_tokens",
    "preemptions",
    "prefill_instance",
    "decode_instance",
    "transferred_bytes",
)


def random_times(rng: Random) -> Coefficients:
    """Constant steps, so that ties abound; round ones; or all terms with awkward values."""
    kind = rng.randint(0, 2)
    if kind == 0:
        return coefficients(const_s=rng.choice([0.5, 1.0]))
    if kind == 1:
        return coefficients(w0_s=0.5, a_s_per_kv_token=0.125, a_mixed_s_per_kv_token=0.25, p1_s_per_token=0.125)
    return coefficients(
        w0_s=rng.uniform(0.01, 0.5),
        w1_s_per_token=rng.uniform(0, 0.01),
        p1_s_per_token=rng.uniform(0, 0.1),
        a_s_per_kv_token=rng.choice([0.0, rng.uniform(0, 1e-2)]),
        a_mixed_s_per_kv_token=rng.uniform(0, 1e-2),
        straggler_s_per_token=rng.choice([0.0, rng.uniform(0, 1e-2)]),
        straggler_min_seqs=2,
        b_s_per_token2=rng.uniform(0, 1e-4),
        s_s_per_seq=rng.uniform(0, 1e-2),
        const_s=rng.uniform(0.01, 0.1),
    )


def random_case(rng: Random) -> tuple[Plan, Workload]:
    """A few tiny instances short of blocks, seats or budget, and their traffic."""
    block_size = rng.choice([1, 2, 4])
    rows = random_rows(rng, block_size, most=12)
    need = most_blocks(rows, block_size) + 1
    chunked = rng.random() < 0.8
    reservation = rng.choice([0, 0, 2, 8])
    found = plan(
        rng.choice([1, 1, 2]),
        rng.choice([1, 1, 2]),
        sets=(
            f"pd_separation.first_token={rng.choice(['decode', 'prefill'])}",
            f"pd_separation.output_margin_tokens={reservation}",
            f"pd_separation.transfer.pipelining={rng.choice(['true', 'false'])}",
            f"pd_separation.transfer.contention={rng.choice(['max_min', 'max_min', 'fifo', 'none'])}",
            f"pd_separation.transfer.layerwise={rng.choice(['true', 'false', 'false'])}",
            f"pd_separation.transfer.decode_start={rng.choice(['last_chunk', 'last_chunk', 'first_chunk'])}",
            f"pd_separation.transfer.delta={rng.choice(['true', 'true', 'false'])}",
            "pd_separation.transfer.pipeline_chunk_blocks=2",
        ),
        times=random_times(rng),
        nic_bytes_per_s=rng.choice([2e3, 1e4, 1e6]),
        block_size=block_size,
        num_blocks=need + rng.randint(0, need),
        max_num_batched_tokens=rng.choice([2, 8, 64]) if chunked else 1000,
        max_num_seqs=rng.choice([1, 2, 8]),
        enable_prefix_caching=rng.random() < 0.85,
        enable_chunked_prefill=chunked,
        long_prefill_token_threshold=rng.choice([0, 0, 3]),
        watermark=rng.choice([0.0, 0.0, 0.1]),
        async_scheduling=rng.random() < 0.4,
        batching=rng.choice(["continuous"] * 5 + ["static"]),
        scheduler_reserve_full_isl=rng.random() < 0.7,
        scheduling_policy=rng.choice(["fcfs", "fcfs", "priority"]),
    )
    return found, workload(rows)


def same_both_ways(system: type[UnifiedSystem] | type[PdSystem], found: Plan, requests: Workload) -> dict[str, bool]:
    """Run both ways and compare; what the example contained."""
    leaping, stepping = system(found, requests, 1), system(stepwise(found), requests, 1)
    for run in (leaping, stepping):
        run.run(warmup_requests=len(requests) // 3)
        check(run)
    same_measures(leaping, stepping)
    table, expected = by_request(leaping), by_request(stepping)
    for name in EQUAL_COUNTS:
        assert table[name].tolist() == expected[name].tolist(), name
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-9, atol=0.0, err_msg=name)
    for name in (name for name in table if name.endswith("_s")):
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)
    pairs = list(zip(_engines(leaping), _engines(stepping), strict=True))
    for one, other in pairs:
        assert one.pool.evicted_blocks == other.pool.evicted_blocks
        assert one.scheduler.preemptions == other.scheduler.preemptions
        assert (one.scheduler.hit_tokens, one.scheduler.query_tokens) == (
            other.scheduler.hit_tokens,
            other.scheduler.query_tokens,
        )
    finish_s = table["finish_s"].tolist()
    return {
        "preemption": bool(table["preemptions"].any()),
        "eviction": any(one.pool.evicted_blocks for one, _ in pairs),
        "hit": bool(table["hit_tokens"].any()),
        "tie": len(set(finish_s)) < len(finish_s),
        "backpressure": bool(getattr(leaping, "reservation_waits", 0)),
        "fewer events": leaping.clock.num_events < stepping.clock.num_events,
    }


def same_measures(leaping: UnifiedSystem | PdSystem, stepping: UnifiedSystem | PdSystem) -> None:
    """Blocks held up to every mark, and the inter-token latencies of the requests that count."""
    for one, other in zip(leaping.marks, stepping.marks, strict=True):
        assert one.time_s == pytest.approx(other.time_s, rel=1e-9)
        for role, held_block_s in other.held_block_s.items():
            assert one.held_block_s[role] == pytest.approx(held_block_s, rel=1e-9, abs=1e-9), role
    for one, other in zip(_logs(leaping), _logs(stepping), strict=True):
        found, expected = one.itl.distribution(), other.itl.distribution()
        assert found.count == expected.count
        if expected.count:
            assert (found.mean, found.max) == pytest.approx((expected.mean, expected.max), rel=1e-9)
    table = leaping.requests.table()
    counts = table["request_id"] >= leaping.warmup_requests
    gaps = float((table["output_tokens"] - 1)[counts].sum())
    answering_s = float((table["finish_s"] - table["first_token_s"])[counts].sum())
    found = _logs(leaping)[-1].itl.distribution()
    # Of several tokens that come at once there is one.
    drafts = any(engine.settings.speculation is not None for engine in _engines(leaping))
    assert found.count <= gaps if drafts else found.count == gaps
    if gaps:
        assert found.mean * found.count == pytest.approx(answering_s, rel=1e-9)


def _logs(system: UnifiedSystem | PdSystem) -> list[StepLog]:
    logs = [*system.logs_by_role().values()]
    for log in logs:
        log.flush()
    return logs


def _engines(system: UnifiedSystem | PdSystem) -> list:
    return system.engines()
