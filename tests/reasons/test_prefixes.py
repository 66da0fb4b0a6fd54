"""What became of each prompt token, held against a count block by block and against what larger caches hit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA
from reasoned import ran, reasoned
from token_account import account_of

from kvsim.plan.plan import Plan
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.prefixes import CLASSES, Caches, Missed, missed
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.workload.read import read_trace
from kvsim.workload.workload import Workload

TIMES = coefficients(p1_s_per_token=5e-5, const_s=5e-3)


def cluster(instances: int, num_blocks: int, block_size: int = 4, *sets: str) -> Plan:
    found = plan(1, max(instances - 1, 1), sets=sets, times=TIMES, max_model_len=200_000)
    found = found.with_instances(spec=replace(found.spec, block_size_tokens=block_size))
    found = found.with_settings("colocated", "prefill", "decode", num_blocks=num_blocks, block_size=block_size)
    return replace(found, num_instances=instances)


def evidence_of(where: Plan, requests: Workload, result: SystemResult) -> Evidence:
    summary = summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1)
    experiment = SimpleNamespace(plan=where, workload=requests, results=(result,))
    return Evidence(experiment, where, result, summary)  # type: ignore[arg-type]


def counted(requests: Workload, result: SystemResult, block: int) -> dict[str, int]:
    account = account_of(requests, result, block)
    return {name: account.total(name) for name in CLASSES}


def check(where: Plan, requests: Workload, result: SystemResult) -> Missed:
    found = evidence_of(where, requests, result).missed
    assert sum(found.total(name) for name in CLASSES) == result.table["computed_tokens"].sum()
    each = sum(found.tokens.values())
    assert np.array_equal(each, result.table["computed_tokens"][found.rows])
    assert all((tokens >= 0).all() for tokens in found.tokens.values()) and not found.warm.any()
    return found


@st.composite
def requests(draw: st.DrawFn) -> list[Row]:
    """Prompts that share heads of a few chains, some of which go on from answers."""
    rows: list[Row] = []
    at_s = 0.0
    for place in range(draw(st.integers(2, 14))):
        at_s += draw(st.sampled_from([0.0, 0.001, 0.02, 5.0]))
        chain, tokens = draw(st.integers(0, 2)), draw(st.integers(1, 24))
        own = draw(st.integers(0, 9))
        goes_on = not own and draw(st.booleans())
        pieces = ((chain, tokens), *([(-1 - place, own)] if own else []))
        output_chain = chain if goes_on else -1 - place
        rows.append(Row(at_s, 0, draw(st.integers(1, 12)), pieces, output_chain))
    return rows


@settings(max_examples=60)
@given(requests(), st.integers(1, 3), st.integers(14, 40))
def test_the_classes_sum_and_equal_a_count_block_by_block(rows: list[Row], instances: int, blocks: int) -> None:
    where, asked = cluster(instances, blocks), workload(rows)
    result = ran(where, asked)
    found = check(where, asked, result)
    assert {name: found.total(name) for name in CLASSES} == counted(asked, result, 4)


@settings(max_examples=25)
@given(requests(), st.integers(14, 40))
def test_the_classes_sum_and_equal_a_count_with_prefill_and_decode_apart(rows: list[Row], blocks: int) -> None:
    where, asked = cluster(2, blocks).with_counts(1, 1), workload(rows)
    result = ran(where, asked, "pd")
    found = check(where, asked, result)
    assert {name: found.total(name) for name in CLASSES} == counted(asked, result, 4)


@settings(max_examples=40)
@given(requests(), st.integers(14, 24))
def test_what_was_evicted_is_hit_where_nothing_is(rows: list[Row], blocks: int) -> None:
    """One after the other, on one instance: a cache that never evicts hits these tokens too, and no others."""
    spaced = workload([replace(row, arrival_s=100.0 * place) for place, row in enumerate(rows)])
    small, large = (ran(cluster(1, size), spaced) for size in (blocks, 4000))
    found = check(cluster(1, blocks), spaced, small)
    hits = found.hit_tokens + found.total("evicted")
    assert hits == (large.table["prompt_tokens"] - large.table["computed_tokens"]).sum()
    for reason in reasoned(cluster(1, blocks), spaced, small):
        if reason.rule == "capacity":
            more = ran(cluster(1, blocks + int(reason.figures["extra_blocks_per_instance"] or 0)), spaced)
            kept = more.table["prompt_tokens"].sum() - more.table["computed_tokens"].sum()
            assert kept >= reason.figures["tokens"] + found.hit_tokens  # type: ignore[operator]


def test_nothing_of_no_requests() -> None:
    asked = workload([Row(0.0, 8)])
    result = ran(cluster(1, 20), asked)
    found = missed(asked, result.table, Caches(4), np.zeros(0, dtype=np.int64))
    assert found.prompt_tokens == 0 and not any(found.total(name) for name in CLASSES)


def test_of_many_requests_the_first_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvsim.reasons.evidence.MOST_REQUESTS", 3)
    asked = workload([Row(9.0 * i, pieces=((0, 32), (-1 - i, 32))) for i in range(9)])
    (cold,) = (each for each in reasoned(cluster(1, 100), asked) if each.rule == "cold")
    assert cold.sentence.endswith("17% were hit (of the first 3 of 9 requests).".replace("17%", "33%"))
    assert cold.figures["prompt_tokens"] == 3 * 64


TRACES = {
    "AzureLLMInferenceTrace_conv.csv": (600, 3000, 16),
    "mooncake_conversation_trace.jsonl": (120, 9_600, 512),
}


@pytest.mark.parametrize("name", TRACES)
def test_the_classes_of_a_recorded_trace(name: str) -> None:
    path: Path = DATA / "traces" / name
    if not path.exists():
        pytest.skip(f"no {path}: KVSIM_DATA names the folder of public traces")
    count, blocks, block = TRACES[name]
    asked = read_trace(path, limit=count)
    where = cluster(3, blocks * 16 // block, block)
    result = ran(where, asked)
    found = check(where, asked, result)
    assert {name: found.total(name) for name in CLASSES} == counted(asked, result, block)
    assert reasoned(where, asked, result)
