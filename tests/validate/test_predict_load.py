"""What is predicted for a load: closed forms, the client's patience, and one definition of TPOT on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from client_files import LOAD_YAML, bench, stage, written

from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.vllm import SYNCHRONOUS_S, SYNCHRONOUS_S_PER_SEQ
from kvsim.validate.clients.read import read_results
from kvsim.validate.clients.traffic import EQUAL, SentRows, SharedPrompts, Traffic
from kvsim.validate.compare_loads import LoadComparison, compare_load
from kvsim.validate.front_end import FRONT_END_S, OLDER_FRONT_END_S
from kvsim.validate.predict_load import Server, load_server, predict_load, predict_traffic

PROFILE = Path("h100_llama-3.1-8b_tp1_bf16")
RARE = Traffic(requests=4, rate_per_s=0.5, prompt_tokens=100.0, output_tokens=3.0, burstiness=EQUAL)


def served(*sets: str, version: str = "0.19.0") -> Server:
    return load_server(PROFILE, "llama-3.1-8b", 1, version, list(sets))


def test_a_lone_request_is_the_formula() -> None:
    """At a rate at which nobody meets anybody: one prefill step, then as many decode steps as there are tokens left."""
    plan = served(version="0.11.0").plan
    found, steps = predict_traffic(RARE, plan, "test"), plan.step_time
    first_s = steps.prefill_alone_s(100, 0)
    assert found.ttft_s["mean"] == pytest.approx(OLDER_FRONT_END_S + first_s)
    later_s = steps.decode_alone_s(101) + steps.decode_alone_s(102)
    assert found.e2e_s["mean"] == pytest.approx(OLDER_FRONT_END_S + first_s + later_s)
    assert found.tpot_mean_s == pytest.approx(later_s / 2)
    more_s = steps.decode_alone_s(100) - served().plan.step_time.decode_alone_s(100)
    assert more_s == pytest.approx(SYNCHRONOUS_S + SYNCHRONOUS_S_PER_SEQ)


def test_prompts_that_were_sent_before_are_hits() -> None:
    """96 of 100 tokens stand in six full blocks; the later stage has them from its first request on."""
    plan = served().plan
    shared = SharedPrompts(groups=1, per_group=2, head_tokens=48)
    alone, cached = (plan.step_time.prefill_alone_s(100 - hit, hit) + FRONT_END_S for hit in (0, 96))
    first = predict_traffic(replace(RARE, shared=shared), plan, "test")
    head = plan.step_time.prefill_alone_s(52, 48) + FRONT_END_S
    assert first.ttft_s["mean"] == pytest.approx((alone + head + 2 * cached) / 4)
    later = predict_traffic(replace(RARE, shared=replace(shared, sent_before=True)), plan, "test")
    assert later.ttft_s["mean"] == pytest.approx(cached)
    assert later.completed == 4


def test_one_token_has_no_tpot() -> None:
    found = predict_traffic(replace(RARE, output_tokens=1.0), served().plan, "test")
    assert (found.tpot_mean_s, found.itl_s) == (None, {})


def test_tpot_weighs_requests_and_itl_tokens() -> None:
    """Answers of two tokens and of four: gaps a, and a, b, c."""
    plan = served().plan
    gaps = [plan.step_time.decode_alone_s(tokens) for tokens in (101, 102, 103)]
    rows = SentRows(np.full(2, 100, np.int32), np.array([2, 4], np.int32), np.array([0.0, 5.0]))
    found = predict_traffic(replace(RARE, requests=2, rows=rows), plan, "test")
    assert found.tpot_mean_s == pytest.approx((gaps[0] + sum(gaps) / 3) / 2)
    assert found.itl_s["mean"] == pytest.approx((gaps[0] + sum(gaps)) / 4)
    assert found.itl_s["p99"] == pytest.approx(gaps[2], rel=1e-3)


def test_the_client_gives_up(tmp_path: Path) -> None:
    """One seat: answers of 100 tokens, all at once. As many are answered as end in time, and the others count."""
    plan = served("engine.max_num_seqs=1", "engine.async_scheduling=false").plan
    burst = replace(RARE, requests=10, rate_per_s=float("inf"), output_tokens=100.0)
    patient = predict_traffic(burst, plan, "test")
    one_s = patient.e2e_s["p99"] / 10
    found = predict_traffic(replace(burst, timeout_s=4.5 * one_s), plan, "test")
    assert (found.completed, found.gave_up, found.unfit) == (4, 6, 0)
    assert (patient.completed, patient.gave_up) == (10, 0)
    assert max(found.e2e_s.values()) <= 4.5 * one_s
    nobody = predict_traffic(replace(burst, timeout_s=0.03), plan, "test")
    assert (nobody.completed, nobody.gave_up, nobody.ttft_s, nobody.tpot_mean_s) == (0, 10, {}, None)


def test_no_more_are_in_flight_than_the_client_holds(tmp_path: Path) -> None:
    (load,) = read_results(written(tmp_path / "result.json", bench()))
    plan = served().plan
    narrow_load = replace(load, traffic=replace(load.traffic, max_in_flight=2))
    narrow, wide = predict_load(narrow_load, plan), predict_load(load, plan)
    assert narrow.requests_per_s < wide.requests_per_s
    assert narrow.ttft_s["mean"] < wide.ttft_s["mean"]
    assert LoadComparison(load, wide, served()).error_pct["requests_per_s"] == pytest.approx(
        (wide.requests_per_s / 9.0 - 1) * 100
    )


@pytest.mark.parametrize(("failed", "compared"), [(0, True), (2, True), (3, False), (38, False)])
def test_survivors_are_compared_with_nothing(tmp_path: Path, failed: int, compared: bool) -> None:
    """Two of forty requests are 5%."""
    (load,) = read_results(written(tmp_path / "stage_0.json", stage(count=40 - failed, failed=failed)))
    found = compare_load(load, served())
    assert bool(found.error_pct) == load.comparable == (found.refusal is None) == compared


def test_the_load_beside_a_stage_is_what_is_served(tmp_path: Path) -> None:
    written(tmp_path / "load.yaml", LOAD_YAML)
    (load,) = read_results(written(tmp_path / "stage_0.json", stage(count=400, failed=0)))
    hits = predict_load(load, served().plan)
    alone = predict_load(load, served("engine.enable_prefix_caching=false").plan)
    assert hits.ttft_s["mean"] < alone.ttft_s["mean"]
    assert hits.completed == 400


def test_what_is_never_served_is_said() -> None:
    with pytest.raises(CapacityError, match="test: a request of 100 tokens does not fit the engine"):
        predict_traffic(RARE, served("model.max_model_len=64").plan, "test")


@pytest.mark.parametrize("version", ["banana", "v", "latest"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=f"vLLM's version = '{version}': must be like 0.32.0"):
        served(version=version)
