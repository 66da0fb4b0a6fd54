"""Each rule beside the hit rate's, on figures made to trigger it: exactly the right sentence, or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import Row, workload

import kvsim
from kvsim.modes.cluster import DeployedCluster, PdCluster
from kvsim.reasons import offload, pd, rounds, scaling, ttft
from kvsim.record.labels import COMPONENT_LABELS

NOTHING = dict.fromkeys(COMPONENT_LABELS, 0.0)


def summary(
    mean: dict[str, float] | None = None, p99: dict[str, float] | None = None, name: str = "unified", **more: Any
) -> SimpleNamespace:
    parts = NOTHING | (mean or {})
    late = NOTHING | (p99 or mean or {})
    use = SimpleNamespace(kv_usage=0.2, load=0.3, busy=0.5, instances=4, gpus=4)
    found = {
        "name": name,
        "attribution_ms": SimpleNamespace(mean=parts, p99=late),
        "ttft_ms": SimpleNamespace(mean=sum(parts.values())),
        "itl_ms": SimpleNamespace(p99=20.0),
        "utilisation": {"colocated": use},
        "preemptions": 0,
        "cache": SimpleNamespace(by_tier={"hbm": 0.5}, misses={}, evictions=7, loads=9),
    }
    return SimpleNamespace(**(found | more))


def evidence(own: SimpleNamespace, others: tuple[SimpleNamespace, ...] = (), **more: Any) -> Any:
    arrival = np.array([0.0, 1.0, 2.0])
    table = {
        "request_id": np.arange(3.0),
        "arrival_s": arrival,
        "proxy_s": np.zeros(3),
        "queue_s": np.zeros(3),
        "first_token_s": arrival + 0.5,
        "finish_s": arrival + 5.0,
        "prefill_instance": np.zeros(3),
        "prompt_tokens": np.array([100.0, 200.0, 300.0]),
        "output_tokens": np.array([9.0, 9.0, 9.0]),
        "computed_tokens": np.array([100.0, 200.0, 300.0]),
    }
    found = {
        "summary": own,
        "others": others,
        "result": SimpleNamespace(name=own.name, table=table, transfer=SimpleNamespace(bytes_sent=2e9)),
        "settings": SimpleNamespace(max_num_batched_tokens=250, max_num_seqs=64, enable_chunked_prefill=True),
        "experiment": SimpleNamespace(cluster=None, workload=SimpleNamespace(max_concurrency=None)),
        "is_pd": False,
        "has_tiers": False,
        "instances": 4,
    }
    return SimpleNamespace(**(found | more))


FULL = SimpleNamespace(kv_usage=0.94, load=1.08, busy=1.0, instances=4, gpus=4)
TTFT = {
    "queue, KV full": (
        ttft.queue,
        evidence(summary({"queue": 90.0, "prefill": 10.0}, utilisation={"colocated": FULL})),
        "Waiting to be scheduled is 90% of mean TTFT (90.0 of 100 ms) and 90% at p99 (90.0 of 100 ms); KV blocks are "
        "94% in use, the rate is 108% of what can be served.",
    ),
    "queue, seats": (
        ttft.queue,
        evidence(
            summary({"queue": 30.0, "prefill": 70.0}),
            settings=SimpleNamespace(max_num_batched_tokens=250, max_num_seqs=3, enable_chunked_prefill=True),
        ),
        "Waiting to be scheduled is 30% of mean TTFT (30.0 of 100 ms) and 30% at p99 (30.0 of 100 ms); all 3 seats of "
        "an instance were taken at times.",
    ),
    "queue, neither": (
        ttft.queue,
        evidence(summary({"queue": 30.0, "prefill": 70.0})),
        "Waiting to be scheduled is 30% of mean TTFT (30.0 of 100 ms) and 30% at p99 (30.0 of 100 ms); KV blocks are "
        "20% in use, and of 64 seats an instance had 3 at most.",
    ),
    "interference": (
        ttft.interference,
        evidence(summary({"interference": 50.0, "prefill": 50.0})),
        "Time in steps spent on other requests is 50% of mean TTFT (50.0 of 100 ms) and 50% at p99 (50.0 of 100 ms); a "
        "step holds up to 250 tokens of all.",
    ),
    "preemption": (
        ttft.preemption,
        evidence(summary({"prefill": 90.0, "preemption": 10.0}, {"preemption": 60.0, "prefill": 40.0}, preemptions=12)),
        "Work done again after preemptions is 10% of mean TTFT (10.0 of 100 ms) and 60% at p99 (60.0 of 100 ms); 12 "
        "times blocks ran out under a running request.",
    ),
    "tier load": (
        ttft.tier_load,
        evidence(summary({"tier_load": 40.0, "prefill": 60.0})),
        "Loading from tiers is 40% of mean TTFT (40.0 of 100 ms) and 40% at p99 (40.0 of 100 ms); 9 loads were made.",
    ),
    "chunks": (
        ttft.prefill,
        evidence(summary({"prefill": 100.0})),
        "Computing the prompt itself is 100% of mean TTFT (100 of 100 ms) and 100% at p99 (100 of 100 ms); 200 tokens "
        "a prompt are computed, 33% of prompts in several steps of 250.",
    ),
    "transfer": (
        ttft.transfer,
        evidence(summary({"transfer": 40.0, "prefill": 60.0})),
        "KV transfer that prefill does not hide is 40% of mean TTFT (40.0 of 100 ms) and 40% at p99 (40.0 of 100 ms); "
        "2.00 GB moved in all.",
    ),
    "decode wait": (
        ttft.decode_wait,
        evidence(summary({"decode_wait": 40.0, "prefill": 60.0})),
        "Waiting on the decode side is 40% of mean TTFT (40.0 of 100 ms) and 40% at p99 (40.0 of 100 ms): for room "
        "there, and for the end of the step under way.",
    ),
    "first decode": (
        ttft.first_decode,
        evidence(summary({"first_decode": 40.0, "prefill": 60.0})),
        "The first decode step is 40% of mean TTFT (40.0 of 100 ms) and 40% at p99 (40.0 of 100 ms): the first token "
        "comes from the decode instance.",
    ),
}
UNIFIED = summary({"queue": 10.0, "prefill": 50.0}, itl_ms=SimpleNamespace(p99=90.0))
SIDES = {
    "prefill": SimpleNamespace(load=0.9, kv_usage=0.1, busy=0.9, instances=1, gpus=4),
    "decode": SimpleNamespace(load=0.4, kv_usage=0.4, busy=0.9, instances=3, gpus=12),
}
PD_OWN = summary(
    {"queue": 60.0, "prefill": 50.0, "transfer": 2.0, "decode_wait": 8.0, "first_decode": 20.0},
    name="pd",
    utilisation=SIDES,
)


def pd_cluster(balanced: tuple[int, int]) -> Any:
    found = object.__new__(PdCluster)
    for name, value in (("prefill_instances", 1), ("decode_instances", 3), ("balanced_pd_ratio", balanced)):
        object.__setattr__(found, name, value)
    return found


def of_pd(**more: Any) -> Any:
    experiment = SimpleNamespace(cluster=pd_cluster((2, 2)), workload=None)
    return evidence(PD_OWN, (UNIFIED,), is_pd=True, instances=1, experiment=experiment, **more)


PD = {
    "sides": (
        pd.sides,
        of_pd(),
        "The prefill side binds: loaded to 90%, the decode side to 40%; P:D 2:2 balances them, 1:3 was run.",
    ),
    "handed over": (
        pd.handed_over,
        of_pd(),
        "Handing over costs PD 30.0 of 140 ms of mean TTFT: transfer 2.00, waiting to decode 8.00, the first decode "
        "step 20.0.",
    ),
    "prefill queue": (
        pd.prefill_queue,
        of_pd(),
        "Prompts queue longer with PD: 60.0 ms at 1 prefill instances against 10.0 ms at 4 unified ones.",
    ),
    "decode alone": (
        pd.decode_alone,
        of_pd(),
        "PD's decode steps compute no prompts: p99 of the gaps between tokens is 20.0 ms against 90.0 ms where prompts "
        "are computed in the same steps.",
    ),
}


def tiered(by_tier: dict[str, float] | None = None, evictions: int = 7, **misses: float) -> Any:
    cache = SimpleNamespace(by_tier=by_tier or {"hbm": 0.5}, misses=misses, evictions=evictions, loads=9)
    return evidence(summary({"prefill": 80.0, "tier_load": 20.0}, cache=cache), has_tiers=True)


OFFLOAD = {
    "loaded": (
        offload.loaded,
        tiered({"hbm": 0.2, "dram": 0.3, "ssd": 0.1}),
        "Tiers gave 40% of prompt tokens, the GPUs' own caches 20%; loading took 20.0 ms of mean TTFT.",
    ),
    "nothing evicted": (
        offload.nothing_evicted,
        tiered(evictions=0),
        "Nothing was evicted from the GPUs' own caches: what an instance has computed it still has, and tiers can give "
        "it only what others computed.",
    ),
    "faster computed": (
        offload.faster_computed,
        tiered(declined_tokens=0.3),
        "30% of prompt tokens were within reach and computed: at the queues of the moment that was faster than loading "
        "them (cache.load_or_recompute).",
    ),
    "lost below": (
        offload.lost_below,
        tiered(evicted_tokens=0.3),
        "30% of prompt tokens had been computed and evicted from every tier before they were asked for.",
    ),
    "out of reach": (
        offload.out_of_reach,
        tiered(elsewhere_tokens=0.3),
        "30% of prompt tokens were in memory that the instance could not reach: of another host or rack.",
    ),
    "refused": (
        offload.refused,
        tiered(refused_tokens=0.3),
        "30% of prompt tokens had been computed and never written: refused, or ports had no time.",
    ),
}
ALL = TTFT | PD | OFFLOAD


@pytest.mark.parametrize("case", ALL)
def test_the_right_sentence(case: str) -> None:
    rule, given, sentence = ALL[case]
    found = rule(given)
    assert found is not None
    assert found.sentence == sentence


def test_what_is_small_is_not_told() -> None:
    quiet = evidence(summary({"prefill": 96.0, "queue": 1.0, "interference": 1.0, "transfer": 1.0, "decode_wait": 1.0}))
    assert [rule(quiet) for rule in ttft.RULES if rule is not ttft.prefill] == [None] * (len(ttft.RULES) - 1)
    assert [rule(quiet) for rule in (*pd.RULES, *offload.RULES, *scaling.RULES)] == [None] * 11
    assert [rule(tiered({"hbm": 0.9})) for rule in offload.RULES] == [None] * 6


def test_more_instances_have_nothing_to_take_over() -> None:
    cluster = object.__new__(DeployedCluster)
    experiment = SimpleNamespace(cluster=cluster, workload=None)
    found = scaling.has_time(evidence(summary({"prefill": 80.0, "queue": 20.0}), experiment=experiment))
    assert found is not None and found.sentence == (
        "More instances would hardly shorten TTFT: at 30% of the maximum rate 80.0 of 100 ms are a prompt's own "
        "computation; more GPUs an instance would."
    )


def test_rounds_of_conversations() -> None:
    rows = [Row(float(turn * 100 + each), 100, session_id=each) for turn in range(3) for each in range(30)]
    served = workload(sorted(rows, key=lambda row: row.arrival_s))
    turn = np.repeat([0, 1, 2], 30)
    table = {
        "request_id": np.arange(90.0),
        "arrival_s": served.arrival_s,
        "prompt_tokens": np.full(90, 100.0),
        "computed_tokens": 100.0 - 40.0 * turn,
    }
    given = SimpleNamespace(
        result=SimpleNamespace(name="unified", table=table), experiment=SimpleNamespace(workload=served)
    )
    found = rounds.by_round(given)  # type: ignore[arg-type]
    assert found is not None and found.sentence == "Hits by the round of a conversation: 1 0%, 2 40%, 3 80%."


def test_users_in_step_and_a_report_with_its_reasons() -> None:
    found = kvsim.simulate(
        "vllm serve meta-llama/Llama-3.1-8B", gpu="h100", workload="in=500,out=20", concurrency=8, requests=80,
        searches_rate=False,
    )  # fmt: skip
    told = {reason.rule: reason.sentence for reason in found.why}
    assert told["users_in_step"].startswith("8 users send requests of one length, so that they end and begin together")
    assert all(sum(map(str.isdigit, reason.sentence)) == 0 or reason.figures for reason in found.why)
    assert [reason.weight for reason in found.why] == sorted((reason.weight for reason in found.why), reverse=True)
