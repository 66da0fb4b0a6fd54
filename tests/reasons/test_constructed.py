"""Runs made to trigger one rule each, through the real engine, and the very sentence that it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from builders import Row, coefficients, colocated, plan, workload
from reasoned import of, ran, reasoned, subject_of

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.reasons import RULES, Reason, most_important
from kvsim.record.result import AdapterUse
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

Reasons = tuple[Reason, ...]
TIMES = coefficients(p1_s_per_token=1e-3, const_s=1e-3)
HEAD, CHUNK_BYTES = 1024, 256 * 131_072
"""Four chunks of tiers; bytes of a chunk of Llama-3.1-8B."""


def one(**settings: object) -> Plan:
    return colocated(plan(1, 1, **({"block_size": 16, "num_blocks": 100} | settings)))


def several(count: int, *sets: str, num_blocks: int = 100) -> Plan:
    found = plan(1, count - 1, sets=("routing.prefill=round_robin", *sets), block_size=16, num_blocks=num_blocks)
    return replace(found, num_instances=count)


def failing(*events: FleetEvent, **clients: float) -> Plan:
    """Two instances by turns, to which something happens."""
    found = several(2)
    fleet, own = found.config.fleet, found.config.clients
    changed = {"fleet": fleet.model_copy(update={"events": events}), "clients": own.model_copy(update=clients)}
    return replace(found, config=found.config.model_copy(update=changed))


def fails(at_s: float, instance: int, duration_s: float) -> FleetEvent:
    return FleetEvent(kind="fail", at_s=at_s, role="colocated", instance=instance, duration_s=duration_s)


def hangs(at_s: float, instance: int, duration_s: float) -> FleetEvent:
    return FleetEvent(kind="hang", at_s=at_s, role="colocated", instance=instance, duration_s=duration_s)


def row(at_s: float, *pieces: tuple[int, int], **fields: int) -> Row:
    return Row(at_s, pieces=pieces, **fields)


def alone(gap_s: float, count: int, tokens: int, output_tokens: int = 1) -> Workload:
    """Requests that share nothing."""
    return workload([Row(gap_s * i, tokens, output_tokens) for i in range(count)])


def said(where: Plan, *rows: Row, info: WorkloadInfo | None = None) -> Reasons:
    requests = workload(rows)
    return reasoned(where, requests if info is None else replace(requests, info=info))


def separated(where: Plan, requests: Workload, prefill: float, decode: float, balanced: tuple[int, int]) -> Reasons:
    pd = ran(where, requests, "pd", loads={"prefill": prefill, "decode": decode})
    return reasoned(where, requests, ran(replace(where, num_instances=4), requests), pd, balanced=balanced)


def tiered(
    *sets: str, gap_s: float = 10.0, per_host: int = 2, rows: list[Row] | None = None, **more: object
) -> Reasons:
    base = ("routing.prefill=round_robin", "cache.load_or_recompute=false", f"cluster.network.gpus_per_host={per_host}")
    times = coefficients(p1_s_per_token=1e-3)
    found = plan(1, 1, sets=(*base, *sets), times=times, nic_bytes_per_s=50e9, **more)
    twice = [row(gap_s * i, (0, HEAD), (-1 - i, 100)) for i in range(2)]
    return reasoned(replace(found, tiers=("dram",)), workload(rows or twice))


def tiered_fails() -> Reasons:
    """The host whose memory has a prompt's head fails before it is asked for again."""
    event = "{kind: fail, at_s: 5, host: 0, duration_s: 1}"
    return tiered(f"fleet.events=[{event}]")


ANSWERED = [row(0, (0, 32), output_tokens=33, output_chain=0), row(90, (0, 64), (-2, 16), output_chain=-2)]
"""The second goes on from what the first was answered."""
ONE_BEHIND_OTHERS = [
    each
    for place, own in enumerate(
        [
            *(row(0, (0, HEAD), (-1, 100)), row(10, (-2, 1000))),
            *(row(10.1, (-3, 1600)), row(10.2, (0, HEAD), (-4, 100))),
        ]
    )
    for each in (own, row(own.arrival_s + 0.01, (-100 - place, 16)))
]
"""The last shared head is cached as its prompt comes, and 26 blocks of it go to the one that waits before it. Between
them is what the other instance gets."""
SLOW_LINK = plan(1, 3, block_size=16, num_blocks=400, times=TIMES)
SEPARATED = alone(0.05, 40, 160, 20)
SEATED = plan(3, 1, block_size=16, num_blocks=400, times=TIMES, nic_bytes_per_s=1e12).with_settings(
    "colocated", max_num_seqs=1
)
"""Decodes hold the only seat of a unified instance."""
SHORT = alone(0.05, 24, 16, 200)
TOO_MUCH = {"colocated": 1.5}

CASES: dict[tuple[str, str], tuple[Callable[[], Reasons], str]] = {
    ("hit_rate", "caching_off"): (
        lambda: said(one(enable_prefix_caching=False), row(0, (0, 64)), row(10, (0, 64))),
        "Prefix caching is off: 50% of prompt tokens (64) begin as an earlier prompt or answer did.",
    ),
    ("hit_rate", "unknown_content"): (
        lambda: said(one(), Row(0, 64), Row(9, 64), info=WorkloadInfo(source="a.csv", format="azure")),
        "The trace has neither hash ids nor sessions, so every prompt is taken to be unlike all others: no hits.",
    ),
    ("hit_rate", "nothing_shared"): (
        lambda: said(one(), row(0, (0, 64)), row(9, (1, 64))),
        "No prompt begins as an earlier prompt or answer did: no cache could hit any of 128 prompt tokens.",
    ),
    ("hit_rate", "shorter_than_block"): (
        lambda: said(one(), row(0, (0, 16)), row(9, (0, 16)), row(19, (0, 10))),
        "3 prompts of 3 have at most 16 tokens, one block (engine.block_size), and can hit nothing: 62% of prompt "
        "tokens (26) were shared there in vain.",
    ),
    ("hit_rate", "shared_below_block"): (
        lambda: said(one(block_size=784), *(row(2 * i, (0, 240), (-1 - i, 700)) for i in range(20))),
        "19 prompts of 20 share a head of at most 240 tokens, which fills no block of 784 (engine.block_size): "
        "neither routing nor memory can make 24% of prompt tokens (4,560) hits.",
    ),
    ("hit_rate", "partial_blocks"): (
        lambda: said(one(), *(row(9 * i, (0, 40), (-1 - i, 24)) for i in range(3))),
        "8.3% of prompt tokens (16) were shared in a last block that was not whole: 8.00 tokens a prompt in 2 "
        "prompts, with blocks of 16 (engine.block_size).",
    ),
    ("hit_rate", "repeated_whole"): (
        lambda: said(one(), *(row(9 * i, (0, 64)) for i in range(3))),
        "17% of prompt tokens (32) are the last block of 2 prompts that an earlier one has in full: a block of 16 "
        "tokens is computed again for its last token.",
    ),
    ("hit_rate", "elsewhere"): (
        lambda: said(several(2), *(row(9 * i, (0, 48), (-1 - i, 16)) for i in range(2))),
        "38% of prompt tokens (48) had been computed by another of 2 instances and not by the one that they were "
        "routed to (routing.prefill round_robin).",
    ),
    ("hit_rate", "answers"): (
        lambda: reasoned(
            where := plan(1, 1, block_size=16, num_blocks=100, sets=("pd_separation.return_generated_kv=false",)),
            workload(ANSWERED),
            ran(where, workload(ANSWERED), "pd"),
        ),
        "29% of prompt tokens (32) were answers of earlier requests, generated on decode instances and not in the "
        "cache of the prefill instance.",
    ),
    ("hit_rate", "answers: elsewhere"): (
        lambda: said(several(2), *ANSWERED),
        "29% of prompt tokens (32) were answers of earlier requests, generated by another instance.",
    ),
    ("hit_rate", "evicted"): (
        lambda: said(one(num_blocks=6), row(0, (0, 64)), row(10, (1, 80)), row(20, (0, 64))),
        "15% of prompt tokens (32) had been computed by the same instance and evicted before 1 prompt asked for them "
        "again, 19.0 s (median) after their last use.",
    ),
    ("hit_rate", "capacity"): (
        lambda: said(one(num_blocks=6), row(0, (0, 64)), row(10, (1, 80)), row(20, (0, 64))),
        "0.00210 GB more KV an instance, beside 0.0126, would span the reuse distances of at least half of what was "
        "evicted (1 prompt looked at): hits about 15% in place of 7.7%, where requests come at the same times.",
    ),
    ("hit_rate", "capacity: several instances"): (
        lambda: said(
            several(2, num_blocks=6),
            *(row(10 * i, (2 * (i % 4 // 2) + i % 2, 64)) for i in range(6)),
        ),
        "0.00210 GB more KV an instance, beside 0.0126, would span the reuse distances of at least half of what was "
        "evicted (2 prompts looked at): hits about 25% in place of 17%, where requests come to the same instances at "
        "the same times.",
    ),
    ("hit_rate", "pending"): (
        lambda: said(
            one(), row(0, (0, 64), output_tokens=40, output_chain=0), row(10, (0, 80), (-2, 16), output_chain=-2)
        ),
        "10% of prompt tokens (16), of 1 prompt, had been asked for by an earlier request, or were part of its answer, "
        "and were not computed yet when they were asked for again.",
    ),
    ("hit_rate", "restart"): (
        lambda: said(
            one(sets=("cache.restart_after_requests=2",)), *(row(9 * i, (0, 64), (-1 - i, 16)) for i in range(3))
        ),
        "27% of prompt tokens (64) had been asked for by an earlier request and were gone or not there yet; all that "
        "was cached was lost when 2 requests had arrived (cache.restart_after_requests).",
    ),
    ("hit_rate", "cold"): (
        lambda: said(one(), *(row(9 * i, (0, 32), (-1 - i, 32)) for i in range(2))),
        "75% of prompt tokens (96) were in no earlier prompt or answer: a cache without end, token by token, could "
        "hit 25% at most, and 25% were hit.",
    ),
    ("hit_rate", "filling"): (
        lambda: said(one(num_blocks=2000), *(row(5 * i, (i % 10, 160), (-1 - i, 16)) for i in range(100))),
        "The first 10 requests began with empty caches and hit 0%; the other 90 hit 91%.",
    ),
    ("hit_rate", "warm"): (
        lambda: said(
            one(sets=("load.warm_caches=true",)),
            *(row(5 * i, (0, 160), (-1 - i, 16)) for i in range(4)),
            info=WorkloadInfo(source="t", format="synthetic"),
        ),
        "23% of prompt tokens (160) hit what caches held from the start, before any request (load.warm_caches).",
    ),
    ("rounds", "by_round"): (
        lambda: said(
            one(), *(row(9 * i, (0, 32 * (i + 1)), session_id=0) for i in range(3)), row(30, (1, 32), session_id=1)
        ),
        "Hits of prompt tokens by round of the conversation (requests): 0% in round 1 (2), 50% in round 2 (1), 67% "
        "in round 3 (1).",
    ),
    ("ttft", "queue"): (
        lambda: reasoned(one(max_num_seqs=2), alone(0.1, 8, 32, 10)),
        "Queueing is 94% of mean TTFT (15,150 ms) and 97% of TTFT at p99; at the end of 99.3% of that time all 2 "
        "seats (max_num_seqs) were taken.",
    ),
    ("ttft", "queue: of many"): (
        lambda: reasoned(one(max_num_seqs=2, num_blocks=1000), alone(0.1, 900, 32, 10)),
        "Queueing is >99.9% of mean TTFT (2,200,550 ms) and >99.9% of TTFT at p99; at the end of >99.9% of that time "
        "(300 of 899 that waited looked at) all 2 seats (max_num_seqs) were taken.",
    ),
    ("ttft", "queue: seats, asynchronously"): (
        lambda: reasoned(one(max_num_seqs=2, async_scheduling=True), alone(0.1, 8, 32, 10)),
        "Queueing is 94% of mean TTFT (17,150 ms) and 97% of TTFT at p99; at the end of 99% of that time all 2 seats "
        "(max_num_seqs) were taken.",
    ),
    ("ttft", "queue: blocks, asynchronously"): (
        lambda: reasoned(one(num_blocks=8, async_scheduling=True), alone(0.1, 8, 64, 10)),
        "Queueing is 97% of mean TTFT (29,775 ms) and 99% of TTFT at p99; at the end of 100% of that time too few of 8 "
        "KV blocks were free.",
    ),
    ("ttft", "queue: blocks"): (
        lambda: reasoned(one(num_blocks=8), alone(0.1, 8, 64, 10)),
        "Queueing is 97% of mean TTFT (29,775 ms) and 99% of TTFT at p99; at the end of 100% of that time too few "
        "of 8 KV blocks were free.",
    ),
    ("ttft", "queue: budget"): (
        lambda: reasoned(one(max_num_batched_tokens=64, num_blocks=1000), alone(0.1, 8, 64, 2)),
        "Queueing is 63% of mean TTFT (3,150 ms) and 76% of TTFT at p99; at the end of 100% of that time a seat and"
        " KV blocks were free: requests waited for a step under way or for the token budget of 64.",
    ),
    ("ttft", "queue: step under way"): (
        lambda: reasoned(one(), alone(1.4, 8, 32, 3)),
        "Waiting to be scheduled is 26% of mean TTFT (350 ms) and 44% of TTFT at p99, 100% of it for the step under "
        "way: engine steps are not interrupted, and a seat, KV blocks and token budget were free.",
    ),
    ("ttft", "queue: step under way, asynchronously"): (
        lambda: reasoned(one(async_scheduling=True), alone(1.4, 8, 32, 3)),
        "Waiting to be scheduled is 55% of mean TTFT (1,225 ms) and 64% of TTFT at p99, 100% of it for the step under "
        "way and any scheduled behind it already: engine steps are not interrupted, and a seat, KV blocks and token "
        "budget were free.",
    ),
    ("ttft", "queue: one seat, too many"): (
        lambda: reasoned(
            one(max_num_seqs=1), alone(0.1, 4, 32, 3), ran(one(max_num_seqs=1), alone(0.1, 4, 32, 3), loads=TOO_MUCH)
        ),
        "Queueing is 81% of mean TTFT (4,350 ms) and 90% of TTFT at p99; at the end of 100% of that time the only seat "
        "(max_num_seqs) was taken; the rate is 150% of the maximum.",
    ),
    ("ttft", "chunking"): (
        lambda: reasoned(one(max_num_batched_tokens=64, times=TIMES), workload([Row(0, 640), Row(9, 32)])),
        "1 prompt of 2 computes more than the 64 tokens that a step takes of one, at least 10 steps for the "
        "longest: mean TTFT 650 ms against 33.0 ms of the others.",
    ),
    ("ttft", "interference"): (
        lambda: reasoned(one(times=TIMES), workload([Row(0, 64), Row(0, 320), Row(0, 320)])),
        "Others' work in the same steps (batch interference) is 67% of mean TTFT (469 ms) and 67% of TTFT at p99.",
    ),
    ("ttft", "prefill"): (
        lambda: reasoned(one(times=TIMES), alone(9, 4, 319)),
        "Computing the prompt itself is 100% of mean TTFT (320 ms) and 100% of TTFT at p99: 319 tokens a request, "
        "at 997 tokens/s.",
    ),
    ("ttft", "preemption"): (
        lambda: reasoned(one(num_blocks=10, max_num_batched_tokens=9), workload([Row(0, 32, 60), Row(12, 112, 2)])),
        "Preemption is 74% of mean TTFT (22,500 ms) and 79% of TTFT at p99: KV blocks ran short in 1 preemption, "
        "and what was lost was computed again.",
    ),
    ("ttft", "retry"): (
        lambda: reasoned(
            failing(fails(2.5, 0, 9), fails(7.5, 1, 9), timeout_s=8.0, retries=1, backoff_s=1.0, backoff_jitter=0.0),
            alone(5, 8, 16, 6),
        ),
        "Lost attempts are 49% of mean TTFT (1,286 ms) and 86% of TTFT at p99, of 1 of 7 requests: the router sent 3 "
        "attempts again (fail colocated 1 at 7.50 s hit 2, the most) and clients sent 2 attempts again (3 attempts "
        "timed out).",
    ),
    ("ttft", "retry: by the router alone"): (
        lambda: reasoned(failing(fails(2.5, 0, 9)), alone(5, 4, 16, 6)),
        "Lost attempts are 33% of mean TTFT (625 ms) and 71% of TTFT at p99, of 1 of 4 requests: the router sent 1 "
        "attempt again (fail colocated 0 at 2.50 s hit 1).",
    ),
    ("ttft", "queue: held at the router"): (
        lambda: reasoned(failing(fails(2.5, 0, 9), fails(2.5, 1, 9)), alone(5, 4, 16, 6)),
        "Queueing is 73% of mean TTFT (4,375 ms) and 72% of TTFT at p99; requests were held at the router 3 times "
        "until an instance could take them.",
    ),
    ("ttft", "queue: an instance hung"): (
        lambda: reasoned(
            failing(hangs(0.5, 0, 9)).with_settings("colocated", max_num_batched_tokens=64),
            workload([Row(0, 640), Row(40, 64)]),
        ),
        "Queueing is 44% of mean TTFT (4,250 ms) and 46% of TTFT at p99; 1 instance hung for a while, where requests "
        "waited too.",
    ),
    ("hit_rate", "restart: an instance failed"): (
        lambda: reasoned(failing(fails(12.5, 0, 2)), workload([row(9 * i, (0, 64), (-1 - i, 16)) for i in range(5)])),
        "16% of prompt tokens (64) had been asked for by an earlier request and were gone or not there yet; caches "
        "were lost 1 time (fleet.events: fail).",
    ),
    ("hit_rate", "restart: one with requests failed"): (
        lambda: reasoned(
            failing(fails(18.5, 0, 2)), workload([row(9 * i, (0, 64), (-1 - i, 16), output_tokens=4) for i in range(5)])
        ),
        "16% of prompt tokens (64) had been asked for by an earlier request and were gone or not there yet; caches "
        "were lost 1 time (fleet.events: fail) and 1 attempt came to nothing.",
    ),
    ("offload", "lost_below: a host failed"): (
        lambda: tiered_fails(),
        "46% of prompt tokens (1,024) had been written to tiers and lost with what failed (fleet.events: fail), or "
        "evicted from all of them, or stood behind what was missing there, before they were asked for again.",
    ),
    ("ttft", "proxy"): (
        lambda: reasoned(
            where := plan(1, 1, sets=("pd_separation.proxy_ms=5000",), num_blocks=400, nic_bytes_per_s=1e12),
            alone(9, 4, 16),
            ran(where, alone(9, 4, 16), "pd"),
        ),
        "The hop through the proxy is 71% of mean TTFT (5,000 ms) and 71% of TTFT at p99: pd_separation.proxy_ms, "
        "whatever the load.",
    ),
    ("ttft", "transfer"): (
        lambda: separated(SLOW_LINK, SEPARATED, 0.9, 0.3, (2, 2)),
        "KV on its way to decode instances is 46% of mean TTFT (3,280 ms) and 43% of TTFT at p99: 0.160 MB a transfer.",
    ),
    ("ttft", "tier_load"): (
        lambda: tiered("hardware.dram.host_gb_per_s=0.05", "hardware.dram.read_gb_per_s=0.05"),
        "Loading KV from tiers is 69% of mean TTFT (1,342 ms) and 96% of TTFT at p99, in 1 load.",
    ),
    ("ttft", "decode_wait"): (
        lambda: reasoned(
            where := plan(1, 1, block_size=16, num_blocks=400, nic_bytes_per_s=1e9, max_num_seqs=2),
            alone(0.1, 8, 16, 30),
            ran(where, alone(0.1, 8, 16, 30), "pd"),
        ),
        "Waiting for room on the decode side and for a step there is 92% of mean TTFT (44,000 ms) and 94% of TTFT at "
        "p99; room or seats were short 6 times.",
    ),
    ("ttft", "first_decode"): (
        lambda: reasoned(
            where := plan(1, 1, nic_bytes_per_s=1e12, sets=("pd_separation.first_token=decode",)),
            alone(5, 4, 16, 3),
            ran(where, alone(5, 4, 16, 3), "pd"),
        ),
        "The first decode step is 50% of mean TTFT (1,000 ms) and 50% of TTFT at p99: the first token comes from the "
        "decode instance.",
    ),
    ("ttft", "bursts"): (
        lambda: reasoned(
            one(num_blocks=9000, max_num_batched_tokens=64),
            workload([Row(100 * (i // 50) + 0.01 * (i % 50), 64) for i in range(400)]),
        ),
        "Arrivals come in bursts: 50 within 17.5 s, where 10.0 come on average; their variance over mean is 40.0, 1"
        " where they come at random.",
    ),
    ("ttft", "in_step"): (
        lambda: reasoned(one(max_num_batched_tokens=64), workload([Row(100 * (i // 5), 64) for i in range(20)])),
        "20 of 20 requests arrive at the same instant and instance as another, up to 5 at once, and share steps or "
        "queue for each other.",
    ),
    ("ttft", "users_in_step"): (
        lambda: reasoned(one(times=TIMES, num_blocks=1000), replace(alone(0, 24, 64, 10), max_concurrency=8)),
        "8 users send requests of one length, so that they end and begin together: 24 of 24 requests arrive at the "
        "same instant and instance as another, up to 8 at once, and share steps or queue for each other. Lengths that "
        "vary, as in=400-600, spread them.",
    ),
    ("pd", "side"): (
        lambda: separated(SLOW_LINK, SEPARATED, 0.9, 0.3, (2, 2)),
        "The prefill side is the first to bind: it is asked 90% of its maximum rate, decode 30%; P:D 2:2 would load"
        " both nearest alike, 1:3 was simulated.",
    ),
    ("pd", "ttft_gap"): (
        lambda: separated(SLOW_LINK, SEPARATED, 0.9, 0.3, (2, 2)),
        "Mean TTFT is 7,156 ms with PD and 161 ms unified; what adds most is exposed transfer, 3,280 ms "
        "longer with PD.",
    ),
    ("pd", "prefill_queue"): (
        lambda: separated(
            plan(1, 3, block_size=16, num_blocks=400, times=TIMES, nic_bytes_per_s=1e12, max_num_batched_tokens=160),
            SEPARATED,
            0.9,
            0.3,
            (2, 2),
        ),
        "Prompts queue longer with PD: 2,164 ms on average for 1 prefill instance, 0 ms for 4 unified instances.",
    ),
    ("pd", "ttft_gap: shorter"): (
        lambda: separated(SEATED, SHORT, 0.3, 0.9, (2, 2)),
        "Mean TTFT is 37.9 ms with PD and 554 ms unified; what saves most is queue, 538 ms shorter with PD.",
    ),
    ("pd", "prefill_queue: shorter"): (
        lambda: separated(SEATED, SHORT, 0.3, 0.9, (2, 2)),
        "Prompts queue shorter with PD: 0 ms on average for 3 prefill instances, 538 ms for 4 unified instances.",
    ),
    ("pd", "side: decode"): (
        lambda: separated(SEATED, SHORT, 0.3, 0.9, (2, 2)),
        "The decode side is the first to bind: it is asked 90% of its maximum rate, prefill 30%; P:D 2:2 would load "
        "both nearest alike, 3:1 was simulated.",
    ),
    ("pd", "handed_over"): (
        lambda: separated(SEATED, SHORT, 0.3, 0.9, (2, 2)),
        "Handing over is 9.42 of 37.9 ms of PD's mean TTFT: exposed transfer 1.60e-05, waiting on the decode side "
        "7.42, the first decode step 2.00.",
    ),
    ("pd", "decode_alone"): (
        lambda: separated(
            plan(1, 3, block_size=16, num_blocks=1000, times=TIMES, nic_bytes_per_s=1e12, max_num_batched_tokens=1600),
            alone(0.5, 20, 1600, 400),
            0.9,
            0.3,
            (2, 2),
        ),
        "PD's decode instances compute no prompts: p99 of the gaps between tokens is 2.00 ms, against 5.00 ms on "
        "unified instances, which do.",
    ),
    ("pd", "decode_batch"): (
        lambda: separated(SLOW_LINK, SEPARATED, 0.9, 0.3, (2, 2)),
        "Mean TPOT is 7.85 ms with PD and 2.00 ms unified: a decode instance has 0.182 answers under way on "
        "average, a unified one 0.177 and prompts beside.",
    ),
    ("pd", "transfer"): (
        lambda: separated(SLOW_LINK, SEPARATED, 0.9, 0.3, (2, 2)),
        "Sending KV, which unified instances do not, adds 3,280 ms to mean TTFT: 0.160 MB a transfer, 0% of its time "
        "behind the prefill.",
    ),
    ("offload", "nothing_evicted"): (
        lambda: tiered(block_size=16, num_blocks=200),
        "Nothing was evicted from 200 KV blocks an instance: tiers can give it only what others computed.",
    ),
    ("offload", "declined"): (
        lambda: tiered("cache.load_or_recompute=true", "hardware.dram.read_gb_per_s=0.01"),
        "46% of prompt tokens (1,024) lay in tiers within reach and were computed: at the queues of the moment that "
        "was faster than loading them (cache.load_or_recompute).",
    ),
    ("offload", "pending"): (
        lambda: tiered(gap_s=0.5),
        "46% of prompt tokens (1,024) were asked for while an earlier request with them was still being computed or "
        "written to a tier.",
    ),
    ("offload", "gone"): (
        lambda: tiered("cache.load_at=arrival", rows=ONE_BEHIND_OTHERS, block_size=16, num_blocks=200, max_num_seqs=1),
        "At least 8.5% of prompt tokens (416) were found when the prompt was looked up and were gone when it was "
        "served, after its wait in the queue.",
    ),
    ("offload", "too_small"): (
        lambda: tiered(f"hardware.dram.capacity_gb={2 * CHUNK_BYTES / 1e9 + 0.001}"),
        "23% of prompt tokens (512) had been written to tiers and evicted from all of them, or stood behind what was "
        "missing there, before they were asked for again: dram (0.0671 GB in 1 pool) was full at the end.",
    ),
    ("offload", "lost_below"): (
        lambda: tiered("cache.restart_after_requests=2"),
        "46% of prompt tokens (1,024) had been written to tiers and lost as memory was (cache.restart_after_requests), "
        "evicted from all of them, or stood behind what was missing there, before they were asked for again.",
    ),
    ("offload", "lost_below: too old"): (
        lambda: tiered("policies.admission=ttl", "policies.ttl_s=5"),
        "46% of prompt tokens (1,024) had been written to tiers and evicted from all of them, or stood behind what was "
        "missing there, before they were asked for again.",
    ),
    ("offload", "out_of_reach"): (
        lambda: tiered(per_host=1),
        "46% of prompt tokens (1,024) lay in memory of another instance, host or rack, out of reach.",
    ),
    ("offload", "refused"): (
        lambda: tiered("policies.admission=second_hit"),
        "46% of prompt tokens (1,024) had been computed and never written to a tier: 4 chunks were refused by "
        "admission, 0 dropped at busy ports.",
    ),
    ("offload", "saved"): (
        lambda: tiered(),
        "Tiers gave 46% of prompt tokens (1,024) for 2.54 ms of waiting in all; at this run's 1,000 tokens/s "
        "computing them would take 1,024 ms.",
    ),
    ("offload", "queued_first"): (
        lambda: tiered(
            rows=[row(0, (0, HEAD)), *(row(10 + 0.01 * i, (0, HEAD), (-1 - i, 100)) for i in range(40))], max_num_seqs=1
        ),
        "Requests queue for 743 of 865 ms of mean TTFT; a hit in a tier spares its own request computing, and loading "
        "and computing are 123 ms.",
    ),
    ("offload", "nothing_loaded"): (
        lambda: tiered(rows=[row(10 * i, (i, HEAD)) for i in range(5)], block_size=16, num_blocks=70),
        "No prompt token was loaded from a tier, though 180 blocks were evicted from the instances' own caches.",
    ),
    ("scaling", "spread"): (
        lambda: said(several(2), *(row(9 * i, (0, 48), (-1 - i, 16)) for i in range(2))),
        "Requests spread over 2 caches hit 0%; what others of them had computed before would make it 38% at most: each "
        "further instance begins with none of it.",
    ),
    ("scaling", "own_compute"): (
        lambda: reasoned(several(2), alone(5, 8, 16)),
        "100% of mean TTFT, 1,000 ms, is computing the request's own prompt, which one instance does, however many "
        "there are.",
    ),
    ("scaling", "idle"): (
        lambda: reasoned(several(2), alone(5, 8, 16), ran(several(2), alone(5, 8, 16), loads={"colocated": 0.2})),
        "2 instances are asked 20% of the maximum rate, and waiting for other requests is 0% of mean TTFT: more of "
        "them can take away no more of it.",
    ),
}


@pytest.mark.parametrize(("which", "case"), CASES.items(), ids=[f"{about}-{rule}" for about, rule in CASES])
def test_the_case_gives_its_sentence(which: tuple[str, str], case: tuple[Callable[[], Reasons], str]) -> None:
    about, rule = which
    make, sentence = case
    assert of(make(), about)[rule.partition(":")[0]] == sentence


def test_every_rule_has_a_case() -> None:
    told = {(about, rule.partition(":")[0]) for about, rule in CASES}
    known = {(subject_of(rule), rule.__name__) for rule in RULES}
    assert told == known


def test_loads_of_adapters_are_told_with_interference() -> None:
    where, requests = one(times=TIMES), workload([Row(0, 64), Row(0, 320), Row(0, 320)])
    result = replace(ran(where, requests), adapters=AdapterUse(1, 0, 0.1))
    assert of(reasoned(where, requests, result), "ttft", "interference")["interference"] == (
        "Others' work in the same steps (batch interference), and loads of LoRA adapters before them, are 67% of mean "
        "TTFT (469 ms) and 67% of TTFT at p99."
    )


def test_hits_of_what_lost_attempts_computed_are_told() -> None:
    requests = workload([row(0, (0, 64), output_tokens=3), row(20, (0, 64))])
    reasons = reasoned(failing(timeout_s=2.5, retries=1, backoff_s=0.0), requests)
    assert of(reasons, "hit_rate")["unknown"] == (
        "75% of prompt tokens (48) were hit though no completed request had them before; attempts that came to nothing "
        "may have."
    )


def test_hits_that_nothing_accounts_for_are_told() -> None:
    requests = workload([row(0, (0, 64)), row(9, (0, 64))])
    result = ran(one(), requests)
    table = {name: column[1:] for name, column in result.table.items()}
    cut = replace(result, table=table, measured=np.ones(1, dtype=bool))
    sentence = "75% of prompt tokens (48) were hit though no completed request had them before: of unknown origin."
    assert of(reasoned(one(), requests, cut), "hit_rate")["unknown"] == sentence


def test_half_of_some_is_about_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.reasons.reuse.DISTANCE_QUESTIONS", 1)
    found = of(
        said(several(2, num_blocks=6), *(row(10 * i, (2 * (i % 4 // 2) + i % 2, 64)) for i in range(6))), "hit_rate"
    )
    assert "distances of about half of what was evicted (1 of 2 prompts looked at): hits" in found["capacity"]


def test_a_small_share_is_not_told() -> None:
    """Two tokens of two blocks in 4,000 are less than a hundredth."""
    reasons = said(one(num_blocks=400), row(0, (0, 18), (-1, 1982)), row(20, (0, 18), (-2, 1982)))
    assert set(of(reasons, "hit_rate")) == {"cold"}


def test_the_most_important_come_first_and_each_sentence_once() -> None:
    def reason(rule: str, weight: float, about: str = "ttft") -> Reason:
        return Reason(about=about, rule=rule, sentence=rule, figures={}, weight=weight)  # type: ignore[arg-type]

    many = (*(reason(name, 1 - place / 10) for place, name in enumerate("abcdd")), reason("z", 0.01, "rounds"))
    assert [each.rule for each in most_important(many)] == ["a", "b", "c", "z"]
