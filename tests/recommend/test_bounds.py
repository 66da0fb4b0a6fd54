"""Arithmetic that rules candidates out: nothing that is simulated does better."""

from __future__ import annotations

import numpy as np
import pytest
from asked import LLAMA_8B, question

from kvsim.capacity.sources import source_of
from kvsim.plan.mode import PREDICT
from kvsim.recommend.bounds import Asked, Bounds, _Hull, bounds_of
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.prune import SLACK, Pruner, splits_of
from kvsim.recommend.slo import Slo
from kvsim.recommend.space import Space
from kvsim.record.summary import tpot_s, ttft_s
from kvsim.sim.run import Case, run
from kvsim.workload.workload import Workload

SLO = Slo(ttft_ms=1000.0, tpot_ms=30.0, share=0.99)
KINDS = [
    (Family("unified", 1, 1), Arguments(8192, 256, "least_loaded"), "in=300,out=40"),
    (Family("unified", 1, 1), Arguments(512, 8, "least_loaded"), "in=700,out=30"),
    (Family("pd", 1, 1), Arguments(2048, 64, "affinity"), "in=600,out=30,prefix=256:4"),
]


def served(workload: str, rate: float, count: int) -> Workload:
    asked = question(workload=workload)
    plan = Space(asked).plan(Space(asked).smallest(Family("unified", 1, 1)))
    return source_of(PREDICT, plan, asked.source, None, 1).traffic.part(rate, count, None, 3)


def bounds(space: Space, family: Family, arguments: Arguments, workload: Workload) -> Bounds:
    plan = space.plan(space.smallest(family, arguments))
    return bounds_of(plan, Asked.of(workload, plan), SLO, is_pd=family.is_pd)


@pytest.mark.parametrize(("family", "arguments", "workload"), KINDS)
def test_no_simulated_server_is_faster(family: Family, arguments: Arguments, workload: str) -> None:
    """Far past saturation the throughput of a server is below its bound, but for the limit of TPOT, which it breaks."""
    space, requests = Space(question(workload=workload)), served(workload, 400.0, 400)
    plan = space.plan(space.smallest(family, arguments))
    found = bounds_of(plan, Asked.of(requests, plan), Slo(ttft_ms=1e9, tpot_ms=1e9, share=0.99), is_pd=family.is_pd)
    result = run(Case("x", family.system, plan, requests, 1)).system
    span_s = float(result.table["finish_s"].max() - result.table["arrival_s"].min())
    assert len(requests) / span_s <= min(found.prefill_per_s, found.decode_per_s)


@pytest.mark.parametrize(("family", "arguments", "workload"), KINDS)
def test_no_lone_request_is_faster(family: Family, arguments: Arguments, workload: str) -> None:
    space, requests = Space(question(workload=workload)), served(workload, 0.2, 12)
    found = bounds(space, family, arguments, requests)
    table = run(Case("x", family.system, space.plan(space.smallest(family, arguments)), requests, 1)).system.table
    assert found.ttft_floor_ms <= 1.05 * ttft_s(table).max() * 1e3
    assert found.tpot_floor_ms <= 1.05 * np.nanmax(tpot_s(table)) * 1e3
    assert found.ttft_floor_ms > 0.3 * ttft_s(table).max() * 1e3


def test_what_is_ruled_out_for_the_rate_misses_the_slo() -> None:
    asked = question(gpus=2, rate=60.0)
    space, requests = Space(asked), served("in=300,out=40", 60.0, 500)
    pruner = Pruner(space, Asked.of(requests, space.plan(space.smallest(space.families[0]))), SLO)
    slow = Candidate(Family("unified", 1, 1), (1, 0), Arguments(512, 4, "least_loaded"))
    assert pruner.too_slow(slow, 60.0) and pruner.most_per_s(slow) * SLACK < 60.0
    result = run(Case("x", "unified", space.plan(slow), requests, 1)).system
    assert SLO.judge(result)["good_share"] < 0.5
    enough = Candidate(Family("unified", 1, 1), (2, 0), Arguments(8192, 256, "least_loaded"))
    assert pruner.too_slow(enough, 60.0) is None


def test_limits_below_the_floor_and_requests_that_do_not_fit() -> None:
    space, requests = Space(question()), served("in=300,out=40", 1.0, 50)
    plan, family, arguments = space.plan(space.smallest(Family("unified", 1, 1))), *KINDS[0][:2]
    asked = Asked.of(requests, plan)
    assert Pruner(space, asked, SLO).why(family, arguments) is None
    assert Pruner(space, asked, Slo(ttft_ms=1.0, tpot_ms=30, share=0.99)).why(family, arguments)[0] == "TTFT floor"  # type: ignore[index]
    assert Pruner(space, asked, Slo(ttft_ms=900, tpot_ms=1.0, share=0.99)).why(family, arguments)[0] == "TPOT floor"  # type: ignore[index]
    small = Space(question(f"{LLAMA_8B} --num-gpu-blocks-override 12"))
    why = Pruner(small, asked, SLO).why(family, arguments)
    assert why is not None and why[0] == "KV room" and "0% of requests fit" in why[1]


def test_splits_nearest_to_balance_are_kept() -> None:
    space, requests = Space(question(gpus=16, workload="in=300,out=300")), served("in=300,out=300", 20.0, 200)
    pruner = Pruner(space, Asked.of(requests, space.plan(space.smallest(space.families[0]))), SLO)
    family, arguments = Family("pd", 1, 1), Arguments(8192, 256, "affinity")
    few = splits_of(pruner, family, arguments, 16, 20.0, 3)
    every = splits_of(pruner, family, arguments, 16, 20.0, 99)
    found = pruner.bounds(family, arguments)

    def slower(counts: tuple[int, int]) -> float:
        return min(counts[0] * found.prefill_per_s, counts[1] * found.decode_per_s)

    assert len(few) == 3 < len(every) == 15 and set(few) <= set(every)
    assert min(map(slower, few)) >= max(slower(one) for one in every if one not in few)


def test_a_hull_is_convex_and_nowhere_above() -> None:
    places = np.arange(1.0, 40.0)
    values = 3 + np.abs(np.sin(places)) * 2 + 0.1 * places
    hull = _Hull(places, values)
    found = hull.at(places)
    assert (found <= values + 1e-12).all() and (np.diff(found, 2) >= -1e-9).all()
    assert found[0] == values[0] and found[-1] == values[-1]
