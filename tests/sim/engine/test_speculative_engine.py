"""An engine that decodes speculatively, in time: hand calculations, laws, and an independent model of its rates."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from both_ways import random_case
from builders import Row, by_request, coefficients, colocated, plan, served, workload
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvsim.config import load_config
from kvsim.plan.engine_settings import Speculation
from kvsim.plan.plan import ROLES, Plan, unified_plan
from kvsim.record.summary import tpot_s, ttft_s
from kvsim.sim.engine.drafting import DraftCounts
from kvsim.sim.engine.speculative import SpeculativeScheduler
from kvsim.sim.run import Case, run
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime, Coefficients
from kvsim.steptime.curves.speculative import SpeculativeStepTime

METHODS = ("ngram", "draft_model", "eagle", "eagle3", "mtp")


def drafting(
    found: Plan,
    speculation: Speculation,
    drafter: Coefficients | None = None,
    **settings: object,
) -> Plan:
    """The plan with drafts; ``drafter``: the time of one pass."""
    one = None if drafter is None else AffineStepTime(drafter)
    times = SpeculativeStepTime(found.step_time, one, speculation.num_tokens, found.step_time.coefficients)
    drafted = found.with_instances(step_time=times).with_settings(*ROLES, **settings)
    return drafted.with_settings("colocated", "decode", speculation=speculation)


def counts_of(system: UnifiedSystem | PdSystem) -> DraftCounts:
    (scheduler,) = [e.scheduler for e in system.engines() if isinstance(e.scheduler, SpeculativeScheduler)]
    return scheduler.counts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_async", [False, True])
def test_all_drafts_accepted_give_all_their_tokens_a_step(method: str, is_async: bool) -> None:
    """A second a step: the prompt and its token, then four tokens in each of two steps."""
    if method == "ngram" and is_async:
        return
    asked = Speculation(method, 3, (1.0, 1.0, 1.0))
    case = drafting(colocated(plan()), asked, async_scheduling=is_async)
    system = served(UnifiedSystem, case, workload([Row(0.0, 40, 9)]))
    table = by_request(system)
    assert (float(table["first_token_s"][0]), float(table["finish_s"][0])) == (1.0, 3.0)
    assert tpot_s(table)[0] == 2.0 / 8
    counts = counts_of(system)
    assert (counts.proposals, counts.drafted, counts.accepted) == (2, [2, 2, 2], [2, 2, 2])


@pytest.mark.parametrize("is_async", [False, True])
def test_no_draft_accepted_gives_a_token_a_step(is_async: bool) -> None:
    case = drafting(colocated(plan()), Speculation("eagle", 3, (0.0, 0.0, 0.0)), async_scheduling=is_async)
    system = served(UnifiedSystem, case, workload([Row(0.0, 40, 9)]))
    assert float(by_request(system)["finish_s"][0]) == 9.0
    assert counts_of(system).accepted == [0, 0, 0]


def test_a_step_takes_its_drafts_and_the_passes_behind_it() -> None:
    """Two drafts: dense time of three tokens and logits of each; a pass over all three, and one over the sequence."""
    times = coefficients(p1_s_per_token=1.0, a_s_per_kv_token=0.125, s_s_per_seq=0.5)
    drafter = coefficients(const_s=0.25, p1_s_per_token=0.0625)
    case = drafting(colocated(plan(times=times)), Speculation("eagle", 2, (1.0, 1.0)), drafter)
    table = by_request(served(UnifiedSystem, case, workload([Row(0.0, 8, 4)])))
    prompt_s = 8 * 1.0 + 0.5 + (0.25 + 8 * 0.0625) + (0.25 + 0.0625)
    assert float(table["first_token_s"][0]) == prompt_s
    kv_tokens = 8 + 3
    step_s = 3 * 1.0 + kv_tokens * 0.125 + 3 * 0.5 + (0.25 + 3 * 0.0625) + (0.25 + 0.0625)
    assert float(table["finish_s"][0]) == prompt_s + step_s


def test_inter_token_latencies_are_of_outputs() -> None:
    """Eight tokens behind the first come in two outputs: two latencies of a second, as clients see."""
    case = drafting(colocated(plan()), Speculation("eagle", 3, (1.0, 1.0, 1.0)))
    found = run(Case("unified", "unified", case, workload([Row(0.0, 40, 9)]), 1, keeps_detail=True)).system
    assert (found.itl.count, found.itl.mean) == (2, 1.0)
    assert found.detail is not None
    assert found.detail.steps["output_tokens"].tolist() == [1, 4, 4]
    assert all(law.ok for law in found.checks)


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_every_request_is_served_whole_and_all_laws_hold(rng: Random) -> None:
    """Unified or separated, whatever blocks, seats and budget are short of; the same again for the same seed."""
    found, requests = random_case(rng)
    method, num_tokens = rng.choice(METHODS), rng.randint(1, 4)
    shares = sorted((rng.choice([0.0, 1.0, rng.random()]) for _ in range(num_tokens)), reverse=True)
    asked = Speculation(method, num_tokens, tuple(shares), 0.6 if method == "ngram" else 1.0)
    case = drafting(
        found,
        asked,
        None if method == "ngram" else coefficients(const_s=0.125),
        async_scheduling=method != "ngram" and rng.random() < 0.5,
        num_blocks=found.colocated_settings.num_blocks + 4 * num_tokens,
        max_num_batched_tokens=max(found.colocated_settings.max_num_batched_tokens, num_tokens + 3),
    )
    kind, chosen = rng.choice([("unified", colocated(case)), ("pd", case)])
    one, again = (run(Case(kind, kind, chosen, requests, 5, keeps_detail=True)).system for _ in range(2))
    failed = [law for law in one.checks if not law.ok]
    assert not failed, failed
    assert one.completed + one.failed == len(requests)
    assert all((one.table[name] == again.table[name]).all() for name in one.table)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_without_drafts_it_is_the_engine_without_speculation(rng: Random) -> None:
    """N-gram never finds anything: step by step as in leaps. (A prompt of one token would be padded.)"""
    found, requests = random_case(rng)
    assume(int(requests.prompt_tokens.min()) > 1)
    case = colocated(found.with_settings(*ROLES, async_scheduling=False, enable_prefix_caching=False))
    plain = by_request(served(UnifiedSystem, case, requests))
    asked = Speculation("ngram", 1, (0.5,), 0.0)
    drafted = drafting(case, asked, max_model_len=max(1, int(requests.prompt_tokens.max() + 200)))
    assume(int((requests.prompt_tokens + requests.output_tokens).max()) + 2 <= drafted.colocated_settings.room_tokens)
    own = by_request(served(UnifiedSystem, drafted, requests))
    assert own["preemptions"].tolist() == plain["preemptions"].tolist()
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(own[name], plain[name], rtol=1e-9, atol=1e-9)


def test_drafts_are_accepted_as_often_as_asked() -> None:
    """Each position within four standard errors, over 40 answers of 500 tokens."""
    shares = (0.8, 0.5, 0.45)
    case = drafting(colocated(plan(max_num_seqs=8)), Speculation("eagle", 3, shares))
    counts = counts_of(served(UnifiedSystem, case, workload([Row(0.0, 16, 500) for _ in range(40)])))
    assert counts.proposals > 7000
    for share, drafted, accepted in zip(shares, counts.drafted, counts.accepted, strict=True):
        assert accepted / drafted == pytest.approx(share, abs=4 * (share * (1 - share) / drafted) ** 0.5)


def test_tpot_falls_by_tokens_a_step_over_the_cost_of_one() -> None:
    """One answer alone, Llama-3.1-8B on an H100 with an EAGLE-3 head, against arithmetic from data sheets.

    A step reads 8.03 G weights and the KV once, whatever it verifies; each pass of the head reads 0.425 G weights and
    one layer's KV, and has 0.3 ms of host time.
    """
    roofline = ("steptime.method=roofline", "hardware.gpu=h100-sxm", "engine.cudagraph_capture_sizes=[]")
    asked = ("engine.speculative.method=eagle3", "engine.speculative.acceptance=[0.74,0.54,0.41]")
    prompt_tokens, output_tokens, accepted = 1000, 2000, 0.74 + 0.54 + 0.41
    found: list[float] = []
    for sets in (roofline, (*roofline, *asked)):
        loaded = load_config(sets=("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", *sets), mode="instance")
        requests = workload([Row(0.0, prompt_tokens, output_tokens)])
        table = run(Case("unified", "unified", unified_plan(loaded.config, 1), requests, 3)).system.table
        found.append(float(tpot_s(table)[0]))
    bytes_per_s, kv_bytes_per_s = 3.35e12 * 0.85, 3.35e12 * 0.75
    kv_tokens = prompt_tokens + output_tokens / 2
    plain_s = 2 * 8.03e9 / bytes_per_s + kv_tokens * 131072 / kv_bytes_per_s + 500e-6 + 2e-6
    head_params = 2 * 4096 * (32 + 16) * 128 + 4096 * 4096 + 3 * 4096 * 14336 + 3 * 4096 * 4096 + 32000 * 4096
    pass_s = 2 * head_params / bytes_per_s + kv_tokens * 4096 / kv_bytes_per_s + 300e-6
    step_s = plain_s + 3 * 2e-6 + 3 * pass_s
    assert found[0] == pytest.approx(plain_s, rel=0.01)
    assert found[1] == pytest.approx(step_s / (1 + accepted), rel=0.02)
    assert found[0] / found[1] == pytest.approx((1 + accepted) / (step_s / plain_s), rel=0.02)


def test_what_may_need_more_blocks_than_there_are_is_refused() -> None:
    """17 tokens fit 5 blocks of 4; with three drafts, and three more that the drafter writes, they may not."""
    requests = workload([Row(0.0, 12, 5)])
    case = colocated(plan(block_size=4, num_blocks=5))
    assert served(UnifiedSystem, case, requests).counts.completed == 1
    asked = Speculation("eagle", 3, (0.0, 0.0, 0.0))
    system = served(UnifiedSystem, drafting(case, asked), requests)
    assert (system.counts.completed, system.counts.failed) == (0, 1)
    roomy = drafting(colocated(plan(block_size=4, num_blocks=6)), asked)
    assert served(UnifiedSystem, roomy, requests).counts.completed == 1


def test_ttft_has_the_drafters_first_prompt_pass() -> None:
    case = drafting(colocated(plan()), Speculation("eagle", 1, (0.5,)), coefficients(const_s=0.25))
    table = by_request(served(UnifiedSystem, case, workload([Row(0.0, 40, 2)])))
    assert float(ttft_s(table)[0]) == 1.25
    assert float(table["prefill_s"][0]) == 1.25
