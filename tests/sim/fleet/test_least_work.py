"""What no scaling policy can do without, against steps of any size and against runs."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from builders import coefficients, plan

from kvsim.config import load_config
from kvsim.plan.plan import make_plan
from kvsim.sim.fleet.least_work import Served, dearest_prices, least_instance_s
from kvsim.steptime.curves.base import StepTime


def test_steps_that_all_take_a_second_are_worth_one_when_they_are_full() -> None:
    instance = plan(1, 1, max_num_seqs=4, max_num_batched_tokens=64).colocated
    prompts = dearest_prices(instance.step_time, instance.settings, Served(1000.0, 0.0, 0.0), 100)
    assert prompts.prompt_token_s == pytest.approx(1 / 64)
    answers = dearest_prices(instance.step_time, instance.settings, Served(0.0, 1000.0, 1e5), 100)
    assert answers.prompt_token_s == 0
    assert 4 * answers.output_token_s + 400 * answers.kv_token_s == pytest.approx(1.0)


def test_costs_by_the_token_are_found_again() -> None:
    times = coefficients(w1_s_per_token=1e-3, a_s_per_kv_token=1e-6, a_mixed_s_per_kv_token=1e-6)
    instance = plan(1, 1, times=times, max_num_seqs=64, max_num_batched_tokens=512).colocated
    found = dearest_prices(instance.step_time, instance.settings, Served(1e6, 1e5, 1e8), 4000)
    # No more than the truth, and no less than the ranges are wide.
    assert 1e-3 / 1.26 < found.prompt_token_s <= 1e-3 * (1 + 1e-9)
    assert found.output_token_s + 1000 * found.kv_token_s <= 1e-3 + 1e-3
    assert 1e6 * found.prompt_token_s + 1e5 * found.output_token_s + 1e8 * found.kv_token_s > 0.5 * 1200


def step_s(times: StepTime, prompt: int, decodes: int, kv: int, longest: int) -> float:
    if not prompt:
        return times.decode_span(decodes, kv, longest)[0]
    work = times.chunk_work(prompt, 0)
    return times.mixed_s(prompt + decodes, decodes + 1, decodes, kv, longest, work)


@pytest.mark.parametrize("sets", [(), ("steptime.method=roofline",), ("engine.tensor_parallel_size=2",)])
def test_no_step_is_worth_more_than_it_takes(sets: tuple[str, ...]) -> None:
    config = load_config(sets=("hardware.gpu=h100-sxm", "model.name=llama-3.1-8b", *sets)).config
    instance = make_plan(config).colocated
    times, settings = instance.step_time, instance.settings
    rng = Random(7)
    for served in (Served(1e6, 1e5, 1e8), Served(1e5, 1e5, 1e9), Served(1e6, 0, 0), Served(0, 1e5, 1e7)):
        prices = dearest_prices(times, settings, served, 8000)
        best = 0.0
        for _ in range(1200):
            decodes = min(int(2 ** rng.uniform(0, 10)), settings.max_num_seqs) if rng.random() < 0.8 else 0
            prompt = 0 if rng.random() < 0.3 and decodes else int(2 ** rng.uniform(0, 13))
            prompt = min(prompt, settings.max_num_batched_tokens - decodes)
            contexts = [int(2 ** rng.uniform(0, 12.9)) for _ in range(decodes)]
            kv, longest = sum(contexts), max(contexts, default=0)
            worth = prompt * prices.prompt_token_s + decodes * prices.output_token_s + kv * prices.kv_token_s
            share = worth / step_s(times, prompt, decodes, kv, longest)
            assert share <= 1 + 1e-9, (prompt, decodes, kv)
            best = max(best, share)
        assert best > 0.5  # a bound that is worth something


def test_work_cannot_be_done_before_it_has_come() -> None:
    arrivals_s, work_s = np.array([0.0, 90.0]), np.array([5.0, 30.0])
    assert least_instance_s(work_s, arrivals_s, 100.0, 1) == 120.0  # 10 of the 30 s are there anyway
    assert least_instance_s(work_s, arrivals_s, 100.0, 4) == 400.0
    assert least_instance_s(work_s, arrivals_s, 100.0, 0) == 35.0
    assert least_instance_s(np.zeros(0), np.zeros(0), 100.0, 2) == 200.0
