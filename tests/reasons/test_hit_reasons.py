"""Constructed runs, each with the sentence that is right of it; and classes that add up on any run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from builders import Row, coefficients, colocated, plan, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.plan.plan import Plan
from kvsim.reasons import Reason, most_important, reasons_of
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.prefixes import CLASSES
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.sim.run import Case, run
from kvsim.workload.workload import Workload

TIMES = coefficients(p1_s_per_token=1e-3, const_s=1e-3)


def one(*, num_blocks: int = 1000, instances: int = 1, block_size: int = 16, **changes: object) -> Plan:
    found = plan(1, 1, times=TIMES, num_blocks=num_blocks, block_size=block_size, **changes)
    return replace(colocated(found), num_instances=instances)


def ran(where: Plan, served: Workload, system: str = "unified") -> SystemResult:
    return run(Case(system, system, where, served, 1)).system


def evidence_of(where: Plan, served: Workload, result: SystemResult) -> Evidence:
    experiment = SimpleNamespace(plan=where, workload=served, results=(result,), cluster=None)
    summary = summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1)
    return Evidence(experiment, result, summary)  # type: ignore[arg-type]


def why(where: Plan, served: Workload) -> dict[str, Reason]:
    result = ran(where, served)
    experiment = evidence_of(where, served, result).experiment
    summary = summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1)
    return {reason.rule: reason for reason in reasons_of(experiment, (summary,)) if reason.about == "hit_rate"}


def shared(count: int, shared_tokens: int, own_tokens: int, gap_s: float = 10.0) -> Workload:
    """``count`` prompts with one head, far enough apart that each is done before the next comes."""
    return workload([Row(gap_s * i, pieces=((0, shared_tokens), (-1 - i, own_tokens))) for i in range(count)])


CASES: dict[str, tuple[Plan, Workload, str]] = {
    "caching_off": (
        one(enable_prefix_caching=False),
        shared(4, 160, 40),
        "Prefix caching is off: 60% of prompt tokens (480) begin as an earlier prompt or answer did.",
    ),
    "nothing_shared": (
        one(),
        workload([Row(10.0 * i, 100) for i in range(5)]),
        "No prompt begins as an earlier prompt or answer did: no cache could hit any of 500 prompt tokens.",
    ),
    "shorter_than_block": (
        one(block_size=64),
        workload([Row(10.0 * i, pieces=((0, 40),)) for i in range(5)]),
        "5 prompts of 5 have at most 64 tokens, one block (engine.block_size), and can hit nothing: 80% of prompt "
        "tokens (160) were shared there in vain.",
    ),
    "shared_below_block": (
        one(block_size=784),
        shared(20, 240, 700, 20.0),
        "19 prompts of 20 share a head of at most 240 tokens, which fills no block of 784 (engine.block_size): neither "
        "routing nor memory can make 24% of prompt tokens (4,560) hits.",
    ),
    "partial_blocks": (
        one(block_size=100),
        shared(5, 150, 100),
        "16% of prompt tokens (200) were shared in a last block that was not whole: 50.0 tokens a prompt in 4 prompts, "
        "with blocks of 100 (engine.block_size).",
    ),
    "repeated_whole": (
        one(block_size=50),
        workload([Row(10.0 * i, pieces=((0, 100),)) for i in range(3)]),
        "33% of prompt tokens (100) are the last block of 2 prompts that an earlier one has in full: a block of 50 "
        "tokens is computed again for its last token.",
    ),
    "elsewhere": (
        one(instances=2, sets=("routing.prefill=round_robin",)),
        shared(2, 160, 160),
        "25% of prompt tokens (160) had been computed by another of 2 instances and not by the one that they were "
        "routed to (routing.prefill round_robin).",
    ),
    "evicted": (
        one(num_blocks=5),
        workload([Row(0.0, pieces=((0, 64),)), Row(10.0, pieces=((1, 64),)), Row(20.0, pieces=((0, 64), (9, 1)))]),
        "25% of prompt tokens (48) had been computed by the same instance and evicted before 1 prompt asked for them "
        "again, 19.9 s (median) after their last use.",
    ),
    "cold": (
        one(),
        shared(5, 160, 160),
        "60% of prompt tokens (960) were in no earlier prompt or answer: a cache without end, token by token, would "
        "hit 40%, and 40% were hit.",
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_the_right_sentence(rule: str) -> None:
    where, served, sentence = CASES[rule]
    found = why(where, served)
    assert rule in found, list(found)
    assert found[rule].sentence == sentence
    assert found[rule].figures["prompt_tokens"] == int(served.prompt_tokens.sum())


def test_a_trace_that_does_not_say_what_prompts_share() -> None:
    served = workload([Row(10.0 * i, 100) for i in range(5)])
    silent = replace(served, info=replace(served.info, format="azure"))
    found = why(one(), silent)
    assert found["unknown_content"].sentence == (
        "The trace has neither hash ids nor sessions, so every prompt is taken to be unlike all others: no hits."
    )
    assert "nothing_shared" not in found


def test_more_memory_keeps_what_was_evicted() -> None:
    """A and B in turn, 4 blocks each, in a pool of 5: 4 more blocks hold both."""
    rows = [Row(10.0 * i, pieces=((i % 2, 64), (-1 - i, 1))) for i in range(6)]
    found = why(one(num_blocks=5), workload(rows))
    capacity = found["capacity"]
    assert capacity.figures["hit_rate"] == 0.0
    extra = capacity.figures["extra_blocks_per_instance"]
    assert extra is not None and capacity.figures["hit_rate_then"] is not None
    enough = why(one(num_blocks=5 + int(extra)), workload(rows))
    missed = enough["cold"].figures["hit_rate"]
    assert missed is not None and missed >= 0.9 * float(capacity.figures["hit_rate_then"])


def test_caches_that_are_still_filling() -> None:
    rows = [Row(10.0 * i, pieces=((i % 10, 320), (-1 - i, 32))) for i in range(110)]
    found = why(one(), workload(rows))
    assert found["filling"].sentence == (
        "The first 11 requests met caches that were filling and hit 8.3%; the other 99 hit 91%."
    )


def test_what_explains_most_is_told_first_and_nothing_twice() -> None:
    def reason(rule: str, weight: float, about: str = "ttft", sentence: str = "") -> Reason:
        return Reason(about=about, rule=rule, sentence=sentence or rule, figures={}, weight=weight)  # type: ignore[arg-type]

    every = tuple(reason(name, weight) for name, weight in (("a", 0.1), ("b", 0.5), ("c", 0.3), ("d", 0.4), ("e", 0.2)))
    told = most_important((*every, reason("f", 0.05, "pd"), reason("g", 0.9, "pd", "b")))
    assert [each.rule for each in told] == ["g", "d", "c", "e", "f"]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120), st.integers(1, 60)), min_size=1, max_size=12),
    gap_s=st.sampled_from([0.0, 0.05, 5.0]),
    num_blocks=st.sampled_from([16, 40, 1000]),
    instances=st.integers(1, 2),
    caches=st.booleans(),
)
def test_classes_add_up_to_what_was_computed(
    rows: list[tuple[int, int, int]], gap_s: float, num_blocks: int, instances: int, caches: bool
) -> None:
    served = workload(
        [
            Row(gap_s * i, pieces=((head, tokens), (-1 - i, own)), output_tokens=3)
            for i, (head, tokens, own) in enumerate(rows)
        ]
    )
    where = one(num_blocks=num_blocks, instances=instances, enable_prefix_caching=caches)
    result = ran(where, served)
    missed = evidence_of(where, served, result).missed
    classes = np.sum([missed.tokens[name] for name in CLASSES], axis=0)
    assert (classes == result.table["computed_tokens"][missed.rows]).all()
    assert all((missed.tokens[name] >= 0).all() for name in CLASSES)
    assert not missed.warm.any()
