"""What a simulation would take is known before it is built, and refused where it is too much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import Row, plan, stepwise, workload

from kvsim import room
from kvsim.config import load_config
from kvsim.errors import CapacityError
from kvsim.plan.mode import CLUSTER, SINGLE
from kvsim.plan.plan import make_plan
from kvsim.sim.systems.size import REQUEST_S, STEP_S, check_size, least_cpu_s
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.replicas import replicated
from kvsim.workload.synthetic.agent import agent
from kvsim.workload.synthetic.bench import bench
from kvsim.workload.synthetic.chat import chat
from kvsim.workload.synthetic.rag import rag
from kvsim.workload.synthetic.sessions import sessions
from kvsim.workload.workload import Workload

CONFIG = load_config().config


@pytest.fixture(autouse=True)
def two_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "available_bytes", lambda: 2.0 * 2**30)


def requests(count: int, prompt_tokens: int = 1000) -> Workload:
    rows = np.full(count, prompt_tokens, dtype=np.int32)
    return Workload.private(np.zeros(count), rows, np.ones(count, dtype=np.int32), workload([Row(0.0)]).info)


def test_a_million_requests_on_ten_thousand_gpus_fit_two_gib() -> None:
    for tiers in ("[]", "[dram, eic, ssd]"):
        check_size(make_plan(load_config(sets=[f"pd_separation.tiers={tiers}"]).config), requests(1_000_000))
    with pytest.raises(CapacityError, match=r"3,000,000 requests on 2,560 instances: .* about 2,100,000 "):
        check_size(make_plan(CONFIG), requests(3_000_000))


BILLION = "1,000,000,000 instances: about 1.5e\\+04 GB of memory, where 2.15 are left; up to about 140,000 would fit"


def test_instances_are_counted_before_one_is_made() -> None:
    with pytest.raises(CapacityError, match=f"{BILLION}; see cache.num_workers"):
        SINGLE.plan(load_config(sets=["cache.num_workers=1000000000"]).config)
    config = load_config(sets=["cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=4000000000"]).config
    for build in (make_plan, CLUSTER.plan):
        with pytest.raises(CapacityError, match=f"{BILLION}; see cluster.simulate_racks"):
            build(config)


def test_prompts_in_steps_of_one_token_take_too_long() -> None:
    one_token = plan(1, 1, max_num_batched_tokens=1, max_num_seqs=1)
    assert least_cpu_s(one_token, requests(10)) == pytest.approx(10 * REQUEST_S + 10_000 * STEP_S)
    check_size(one_token, requests(20_000))
    message = r"30,000 requests, 3e\+07 steps of 1 token: 754 s .*cpu_s = 600 allows about 23,000 .* steps of 2 tokens"
    with pytest.raises(CapacityError, match=message):
        UnifiedSystem(one_token, requests(30_000), 1)
    check_size(plan(1, 1, sets=["limits.cpu_s=800"], max_num_batched_tokens=1, max_num_seqs=1), requests(30_000))


def test_prompts_that_no_engine_takes_cost_no_steps() -> None:
    found = plan(1, 1, max_num_batched_tokens=1, max_num_seqs=1, max_model_len=500)
    assert least_cpu_s(found, requests(10)) == pytest.approx(10 * REQUEST_S)
    long = replace(requests(10), output_tokens=np.full(10, 1_000_000, dtype=np.int32))
    assert least_cpu_s(stepwise(found), long) > 9


PD, CHAT, AGENT = CONFIG.pd_trace, CONFIG.trace, CONFIG.agent_trace
TOO_LARGE = {
    "chat": lambda: chat(PD, 10**8, 1.0, 1),
    "sessions of chat": lambda: chat(PD.model_copy(update={"num_sessions": 10**9}), 5, 1.0, 1),
    "prompts of chat": lambda: chat(PD.model_copy(update={"num_system_prompts": 10**11}), 5, 1.0, 1),
    "rag": lambda: rag(PD, 10**8, 1.0, 1),
    "documents of rag": lambda: rag(PD.model_copy(update={"num_shared_docs": 10**11}), 5, 1.0, 1),
    "bench": lambda: bench(10**8, 1.0, 10, 10, 1),
    "agents": lambda: agent(AGENT, 10**7, 1.0, 1),
    "turns of agents": lambda: agent(AGENT.model_copy(update={"turns_max": 10**10}), 1, 1.0, 1),
    "sessions at a high rate": lambda: sessions(CHAT, "trace", 5, 1e6, 1),
    "documents of sessions": lambda: sessions(CHAT.model_copy(update={"num_shared_docs": 10**11}), "trace", 5, 1.0, 1),
    "replicas": lambda: replicated(workload([Row(0.0), Row(604800.0)]), 10**9, 1),
    "replicas of which few are seen": lambda: replicated(workload([Row(0.0), Row(604800.0)]), 10**9, 1, 100),
}


@pytest.mark.parametrize("draw", TOO_LARGE.values(), ids=TOO_LARGE)
def test_traffic_is_counted_before_it_is_drawn(draw) -> None:
    with pytest.raises(CapacityError, match=r"GB of memory, where 2\.15 are left"):
        draw()


def test_the_rate_that_would_fit_does() -> None:
    with pytest.raises(CapacityError, match=r"up to about 46,000 requests/s would fit"):
        sessions(CHAT, "trace", 5, 1e6, 1)
    assert len(sessions(CHAT, "trace", 5, 1000.0, 1)) == 5
