"""Requests that nobody can serve are named at the start, with what keeps them out; what fits has a maximum above 0."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import Row, coefficients, plan, served, workload
from experiments import run_pd, run_tiered
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.capacity.demand import demand_of
from kvsim.capacity.load_search import LoadSearch
from kvsim.capacity.maximum_rates import decode_requests_per_s, role_maxima
from kvsim.capacity.steady import pd_residence
from kvsim.config import load_config
from kvsim.errors import CapacityError
from kvsim.failures import Failures
from kvsim.plan.fitting import fitting_rows
from kvsim.plan.mode import CLUSTER, MODES
from kvsim.plan.plan import make_plan
from kvsim.sim.executor import Serial
from kvsim.sim.systems.pd import PdSystem
from kvsim.study.catalogue import run_studies
from kvsim.study.context import StudyContext
from kvsim.workload.reading import AS_IT_STANDS
from kvsim.workload.traffic import TraceSource

SMALL = ("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1")


def nobody(*arguments: object) -> Any:
    raise AssertionError("nothing is simulated")


def refused(mode: str, *sets: str, trace: TraceSource | None = None) -> str:
    """What a run says that cannot begin."""
    config = load_config(preset="smoke", sets=sets).config
    with pytest.raises(CapacityError) as raised:
        if mode == "pd":
            run_pd(config, progress=nobody, trace=trace)
        else:
            run_tiered(MODES[mode], {"one": config}, progress=nobody, trace=trace)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("mode", ["pd", "single", "cluster"])
@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (("model.max_model_len=16",), "tokens or more, are longer than the 15 tokens that model.max_model_len = 16"),
        (("engine.num_gpu_blocks_override=10",), "144 tokens of KV that an instance holds (engine.num_gpu_blocks_ov"),
        (("hardware.hbm.kv_capacity_gb=0.04",), "tokens of KV that an instance holds (hardware.hbm.kv_capacity_gb = "),
        (
            ("engine.kv_cache_memory_bytes=40000000",),
            "that an instance holds (engine.kv_cache_memory_bytes = 40000000)",
        ),
        (
            (*SMALL, "engine.gpu_memory_utilization=0.2242"),
            "(what llama-3.1-8b in bf16 leaves of 0.2242 of the memory of 1 x h100-sxm: engine.tensor_parallel_size)",
        ),
    ],
    ids=["model", "blocks", "capacity", "budget", "memory"],
)
def test_synthetic_requests_that_do_not_fit(mode: str, sets: tuple[str, ...], reason: str) -> None:
    said = refused(mode, *sets)
    assert said.startswith("no request fits: ")
    assert reason in said


@pytest.mark.parametrize("mode", ["pd", "single", "cluster"])
def test_a_trace_that_does_not_fit(mode: str, tmp_path: Any) -> None:
    path = tmp_path / "huge.csv"
    lines = [f"2024-05-10 00:00:0{i}.0000000,{900_000 + i},10" for i in range(6)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(lines) + "\n", encoding="utf-8")
    said = refused(mode, trace=TraceSource(path, AS_IT_STANDS))
    assert said == (
        "no request fits: 6 prompts, 900,000 tokens or more, are longer than the 131,071 tokens that "
        "model.max_model_len = 131,072 leaves a prompt"
    )


def test_every_limit_that_keeps_somebody_out_is_named() -> None:
    found = plan(1, 1, num_blocks=10, block_size=16, max_model_len=1000)
    with pytest.raises(CapacityError) as raised:
        fitting_rows(workload([Row(0, 1000, 5), Row(1, 150, 50), Row(2, 2000, 5)]), found)
    first, second = str(raised.value).split("; ")
    assert first.startswith("no request fits: 2 prompts, 1,000 tokens or more, are longer than the 999 ")
    assert second.startswith("1 prompts with their answers, 200 tokens or more, are longer than the 160 tokens of KV")


def test_no_requests_at_all() -> None:
    with pytest.raises(CapacityError, match="no request fits: there is none"):
        fitting_rows(workload([]), plan(1, 1))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 300)), min_size=1, max_size=8),
    st.integers(1, 40),
    st.integers(2, 400),
)
def test_what_fits_is_what_a_system_serves(lengths: list[tuple[int, int]], blocks: int, longest: int) -> None:
    found = plan(1, 1, num_blocks=blocks, block_size=16, max_model_len=longest)
    requests = workload([Row(float(i), *sizes) for i, sizes in enumerate(lengths)])
    done = served(PdSystem, found, requests).requests.table()["request_id"]
    if not len(done):
        with pytest.raises(CapacityError, match="no request fits"):
            demand_of(requests, found)
        return
    assert fitting_rows(requests, found).tolist() == sorted(done.astype(int).tolist())
    demand = demand_of(requests, found)
    rates = role_maxima(found, demand, "pd") | role_maxima(found, demand, "unified")
    assert all(rate > 0 for rate in rates.values()), rates


def test_the_first_to_come_is_let_in_whatever_reservation_is_asked_for() -> None:
    """Decode instances serve one after the other where no two reservations fit."""
    times = coefficients(const_s=0.1)
    found = plan(1, 1, times=times, nic_bytes_per_s=1e15, num_blocks=100, output_margin_tokens=10**6)
    requests = workload([Row(0, 100, 20) for _ in range(200)])
    run = served(PdSystem, found, requests)
    finish_s = np.sort(run.requests.table()["finish_s"])
    simulated = 100 / (finish_s[150] - finish_s[50])
    assert decode_requests_per_s(found, demand_of(requests, found)) == pytest.approx(simulated, rel=0.03)


def test_answers_that_prefill_has_given_take_no_time() -> None:
    found = plan(1, 1, sets=("pd_separation.first_token=prefill",), times=coefficients(p1_s_per_token=1e-3))
    demand = demand_of(workload([Row(float(i), 100, 1) for i in range(10)]), found)
    assert pd_residence(found, demand, 1.0).mean_s == pytest.approx(0.1 + 100 * 1000 / 1e6)


def test_a_study_of_contexts_that_do_not_fit_says_so() -> None:
    """Sessions of the cluster's traffic end in more tokens than 999 blocks hold: no percentiles of nothing."""
    config = load_config(preset="smoke", sets=["engine.num_gpu_blocks_override=1000"]).config
    requests = workload([Row(0, 100, 10), Row(1, 100, 10)])
    parts = (CLUSTER, CLUSTER.plan(config), requests, SimpleNamespace(), None, 1, Serial(nobody))
    failures = Failures()
    assert not run_studies(StudyContext(*parts), ("context",), failures).found  # type: ignore[arg-type]
    assert [failure.why for failure in failures.found] == [
        "no context fits: 22,784 tokens for a session's turns are no fewer than the 15,984 that the model and the KV "
        "blocks of an instance take"
    ]


def test_a_workload_at_its_own_rate_is_checked_too() -> None:
    found = make_plan(load_config(preset="smoke", sets=["model.max_model_len=100"]).config)
    search = LoadSearch(found, SimpleNamespace(), (1, 2), Failures(), Serial(nobody))  # type: ignore[arg-type]
    with pytest.raises(CapacityError, match="no request fits"):
        search.at_own_rate(workload([Row(0, 100, 5), Row(1, 300, 5)]))
