"""What is configured of short runs: how many GPUs they have, and what of a run is warm-up."""

from __future__ import annotations

import pytest

from kvsim.capacity.demand import demand_of
from kvsim.capacity.pilot import Trial
from kvsim.capacity.sources import SessionsRun
from kvsim.capacity.steady import run_requests, steady_requests
from kvsim.config import load_config
from kvsim.plan.mode import SINGLE
from kvsim.plan.plan import make_plan
from kvsim.workload.traffic import ChatTraffic


@pytest.mark.parametrize(("gpus", "sides"), [(64, (4, 12)), (32, (2, 6)), (1, (1, 1))])
def test_gpus_of_the_sample(gpus: int, sides: tuple[int, int]) -> None:
    config = load_config(sets=[f"load.pilot_gpus={gpus}"]).config
    trial = Trial(make_plan(config), ChatTraffic(config), 3, None, lambda _: 100_000)  # type: ignore[arg-type]
    small = trial.small_plan(1600.0)
    assert (small.num_prefill, small.num_decode) == sides


def test_a_longer_warm_up_makes_longer_runs() -> None:
    plans = [
        make_plan(load_config(sets=[f"pd_experiments.warmup_share={share}", "cluster.simulate_racks=1"]).config)
        for share in (0.1, 0.5)
    ]
    demand = demand_of(ChatTraffic(plans[0].config).population(), plans[0])
    short, long = (steady_requests(plan, demand, 20.0, 8.0, None) for plan in plans)
    assert long == pytest.approx(short * 0.9 / 0.5, abs=2)
    short, long = (run_requests(plans[0], demand, 20.0, 8.0, None, share) for share in (0.3, 0.5))
    assert long == pytest.approx(short * 0.65 / 0.45, abs=2)


def test_sessions_live_as_long_as_their_answers_are_taken_to_last() -> None:
    def life_s(pace_ms: int) -> float:
        return SessionsRun(
            SINGLE.plan(load_config(sets=[f"load.assumed_tpot_ms={pace_ms}"], mode="single").config), SINGLE
        ).traffic.life_s

    assert life_s(20) == pytest.approx(3 * (120 + 200 * 0.02))
    assert life_s(50) == pytest.approx(3 * (120 + 200 * 0.05))
