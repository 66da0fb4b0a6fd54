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


def counted_block_by_block(requests: Workload, result: SystemResult, block: int) -> dict[str, int]:
    """The classes by sets of tokens and blocks, in the order of arrival: an own account of the same rules."""
    table, found = result.table, dict.fromkeys(CLASSES, 0)
    rows = sorted(range(len(table["request_id"])), key=lambda row: (table["arrival_s"][row], table["request_id"][row]))
    asked: set[tuple[int, int]] = set()
    written: dict[tuple[int, int], list[tuple[float, int, bool]]] = {}
    paths = {}
    for row in rows:
        request = requests.request(int(table["request_id"][row]))
        paths[row] = [(chain, place) for chain, tokens in request.pieces for place in range(tokens)]
        last, length = request.pieces[-1]
        begin = length if last == request.output_chain else 0
        outputs = int(table["output_tokens"][row])
        answer = [(request.output_chain, begin + place) for place in range(outputs)]
        prefilled_s = sum(table[name][row] for name in ("transfer_s", "decode_wait_s", "first_decode_s"))
        prefilled_s = table["first_token_s"][row] - prefilled_s
        instance = int(table["prefill_instance"][row])
        for token in paths[row]:
            written.setdefault(token, []).append((prefilled_s, instance, False))
        for token in answer[:-1]:
            written.setdefault(token, []).append((table["finish_s"][row], instance, True))
        paths[row] = (paths[row], answer)  # type: ignore[assignment]
    for row in rows:
        prompt, answer = paths[row]
        hit = len(prompt) - int(table["computed_tokens"][row])
        at_s, instance = table["arrival_s"][row] + table["queue_s"][row], int(table["prefill_instance"][row])
        shared = next((place for place, token in enumerate(prompt) if token not in asked), len(prompt))
        for place in range(hit, len(prompt)):
            end = (place // block + 1) * block
            if place >= shared:
                found["cold"] += 1
            elif end > shared or end > len(prompt):
                found["partial"] += 1
            elif end > (len(prompt) - 1) // block * block:
                found["last"] += 1
            else:
                found[_why(written[prompt[end - 1]], instance, at_s, result.cache.evicted_blocks > 0)] += 1
        asked.update(token for token in (*prompt, *answer) if token[0] >= 0)
    return found


def _why(written: list[tuple[float, int, bool]], instance: int, at_s: float, evicts: bool) -> str:
    """Why a block is missing whose last token was ``written`` then, by whom, as part of an answer or not."""
    by = [(whose, is_answer) for when_s, whose, is_answer in written if when_s <= at_s]
    if any(whose == instance for whose, _ in by):
        return "evicted" if evicts else "pending"
    if any(not is_answer for _, is_answer in by):
        return "elsewhere"
    return "answers" if by else "pending"


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
    assert {name: found.total(name) for name in CLASSES} == counted_block_by_block(asked, result, 4)


@settings(max_examples=25)
@given(requests(), st.integers(14, 40))
def test_the_classes_sum_with_prefill_and_decode_apart(rows: list[Row], blocks: int) -> None:
    where, asked = cluster(2, blocks).with_counts(1, 1), workload(rows)
    check(where, asked, ran(where, asked, "pd"))


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
def test_no_figure_of_a_recorded_trace_is_false(name: str) -> None:
    path: Path = DATA / "traces" / name
    if not path.exists():
        pytest.skip(f"no {path}: KVSIM_DATA names the folder of public traces")
    count, blocks, block = TRACES[name]
    asked = read_trace(path, limit=count)
    where = cluster(3, blocks * 16 // block, block)
    result = ran(where, asked)
    found = check(where, asked, result)
    own = {name: found.total(name) for name in CLASSES}
    assert own == counted_block_by_block(asked, result, block)
    table, prompt_tokens = result.table, int(result.table["prompt_tokens"].sum())
    for reason in reasoned(where, asked, result):
        figures = reason.figures
        if reason.about == "hit_rate":
            assert figures["prompt_tokens"] == prompt_tokens, reason
        if reason.rule in ("elsewhere", "answers", "evicted", "pending", "cold"):
            assert figures["tokens"] == own[reason.rule], reason
        if reason.rule == "unknown_content":
            assert not result.cache.hit_tokens and own["cold"] == prompt_tokens
        if reason.rule in ("queue", "prefill", "interference"):
            own_ms = table[f"{reason.rule}_s"].mean() * 1e3
            assert figures["mean_ms"] == pytest.approx(own_ms)
            assert figures["ttft_mean_ms"] == pytest.approx((table["first_token_s"] - table["arrival_s"]).mean() * 1e3)
        if reason.rule == "chunking":
            assert figures["prompts"] == (table["computed_tokens"] > 8192).sum()
