"""What happens to one small instance and its clients, computed by hand: every step takes a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import (
    ROLES,
    Row,
    by_request,
    check,
    coefficients,
    colocated,
    looked_after,
    plan,
    stepwise,
    with_clients,
    with_fleet,
    workload,
)
from tiered_case import SMALL, TOKEN_GB, tiered_plan

from kvsim.config.fleet_keys import FleetEvent
from kvsim.plan.plan import Plan
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.workload.workload import Workload

TEN_STEPS = workload([Row(0.0, 1, 10)])


def instances(count: int = 1, **settings: object) -> Plan:
    own = {"block_size": 2, "num_blocks": 64, "max_num_seqs": 4, "max_num_batched_tokens": 64, **settings}
    return replace(colocated(plan(**own)), num_instances=count)  # type: ignore[arg-type]


def finish_s(found: Plan, requests: Workload) -> list[float]:
    """When answers are complete, taken in leaps and in single steps; every block is free then."""
    found_s = []
    for kind in (found, stepwise(found)):
        system, _ = looked_after(UnifiedSystem, kind, requests)
        system.clock.run_to_stop()
        check(system)
        found_s.append(by_request(system)["finish_s"].tolist())
    assert found_s[0] == found_s[1]
    return found_s[0]  # type: ignore[no-any-return]


def event(kind: str, at_s: float, **rest: object) -> FleetEvent:
    return FleetEvent(kind=kind, at_s=at_s, role="colocated", **{"instance": 0, **rest})  # type: ignore[arg-type]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("events", "expected_s"),
    [
        # The step under way ends at 4; six are left at 8.5.
        ([event("hang", 3.5, duration_s=5.0)], 14.5),
        # At 3 the third has ended, and the fourth does not begin.
        ([event("hang", 3.0, duration_s=5.0)], 15.0),
        # What begins at 4, 6 and 8 takes two seconds each.
        ([event("slow", 3.5, duration_s=5.0, factor=2.0)], 13.0),
        # Slow steps begin after the hang alone: at 8, 10 and 12, then four at their own speed.
        ([event("hang", 3.0, duration_s=5.0), event("slow", 3.5, duration_s=10.0, factor=2.0)], 18.0),
        # Both at a time: what begins at 4 takes three times as long, at 7 and 9 twice, from 11 on once.
        ([event("slow", 4.0, duration_s=3.0, factor=1.5), event("slow", 4.0, duration_s=6.0, factor=2.0)], 14.0),
        # The later one of two ends counts.
        ([event("hang", 3.0, duration_s=5.0), event("hang", 4.0, duration_s=2.0)], 15.0),
        # A hang that is over within the step that it finds under way costs nothing.
        ([event("hang", 3.25, duration_s=0.5)], 10.0),
    ],
)
def test_a_hang_and_a_slowdown_cost_what_they_say(events: list[FleetEvent], expected_s: float, is_async: bool) -> None:
    found = instances().with_settings(*ROLES, async_scheduling=is_async)
    assert finish_s(with_fleet(found, *events), TEN_STEPS) == [expected_s]


def test_an_instance_that_is_started_again_hangs_no_more() -> None:
    events = event("hang", 3.0, duration_s=1000.0), event("fail", 5.0, duration_s=2.0)
    assert finish_s(with_fleet(instances(), *events), TEN_STEPS) == [17.0]


def test_what_is_down_cannot_hang() -> None:
    events = event("fail", 5.0, duration_s=2.0), event("hang", 6.0, duration_s=1000.0)
    assert finish_s(with_fleet(instances(), *events), TEN_STEPS) == [17.0]


def test_a_prompt_that_is_sent_again_hits_what_its_last_attempt_left() -> None:
    """Six tokens of nobody else, two a step: all are computed at 3, half a second after the client has lost patience;
    its next attempt computes the last block alone. After a failure nothing is left to hit.
    """
    found = instances(max_num_batched_tokens=2)
    requests = workload([Row(0.0, 6, 1)])
    patience = {"timeout_s": 2.5, "retries": 1, "backoff_s": 0.0, "backoff_jitter": 0.0}
    system, use = looked_after(UnifiedSystem, with_clients(found, **patience), requests)
    assert (use.timed_out, use.retried, by_request(system)["finish_s"].tolist()) == (1, 1, [4.0])
    assert by_request(system)["hit_tokens"].tolist() == [4]
    assert finish_s(with_fleet(found, event("fail", 2.5, duration_s=1.0)), requests) == [6.5]


def test_what_is_lost_with_an_instance_is_not_lost_again_when_time_is_up() -> None:
    """Two tokens a step: four are computed when the instance fails at 2.5. The router has not noticed at 4, when the
    client gives up."""
    found = with_fleet(instances(max_num_batched_tokens=2), event("fail", 2.5, duration_s=10.0), detection_s=20.0)
    requests = workload([Row(0.0, 6, 1)])
    _, use = looked_after(UnifiedSystem, with_clients(found, timeout_s=4.0), requests)
    assert (use.requests_hit, use.timed_out, use.gave_up, use.lost_prefill_tokens) == (1, 1, 1, 4)


@pytest.mark.parametrize(
    ("max_resends", "retries", "expected"),
    [
        (0, 0, (0, 0, 0, [])),
        (1, 0, (1, 1, 0, [])),
        (2, 0, (2, 1, 0, [])),
        (3, 0, (3, 0, 0, [26.0])),
        (1, 1, (2, 1, 1, [26.0])),
    ],
)
def test_a_router_gives_up_what_it_has_sent_again_so_often(
    max_resends: int, retries: int, expected: tuple[int, int, int, list[float]]
) -> None:
    """Ten steps, lost at 5, 10 and 15; the instance is back a second later. A client that tries again has an attempt
    of its own, which is sent again as often."""
    events = [event("fail", at_s, duration_s=1.0) for at_s in (5.0, 10.0, 15.0)]
    found = with_fleet(instances(), *events, max_resends=max_resends)
    found = with_clients(found, retries=retries, backoff_s=0.0, backoff_jitter=0.0)
    system, use = looked_after(UnifiedSystem, found, TEN_STEPS)
    finished = by_request(system)["finish_s"].tolist()
    assert (use.resent, use.router_gave_up, use.retried, finished) == expected
    assert use.gave_up == (not finished)


@pytest.mark.parametrize("detection_s", [0.0, 2.0])
def test_what_fails_together_is_known_together(detection_s: float) -> None:
    """Eight instances fail at once: what they had is sent again once, to none of them before it is back."""
    together = FleetEvent(kind="fail", at_s=5.0, role="colocated", duration_s=4.0)
    found = with_fleet(instances(8), together, detection_s=detection_s, max_resends=1)
    system, use = looked_after(UnifiedSystem, found, workload([Row(0.0, 1, 10) for _ in range(8)]))
    assert (use.requests_hit, use.resent, use.router_gave_up) == (8, 8, 0)
    assert by_request(system)["finish_s"].tolist() == [19.0] * 8


def test_what_is_slow_is_not_slowed_again_by_as_much_at_random() -> None:
    often = FleetEvent(kind="slow", mtbf_h=0.1 / 3600, factor=2.0, role="colocated")
    system, use = looked_after(UnifiedSystem, with_fleet(instances(), often), TEN_STEPS)
    assert by_request(system)["finish_s"].tolist() == [pytest.approx(19.0, abs=1.0)]
    assert len(use.incidents) == 1


def test_who_is_held_is_sent_when_every_step_that_ends_at_that_instant_is_booked() -> None:
    """Two requests an instance: the third waits at the router until instance 1 frees a seat at 2, when the step of
    instance 0 has ended too, whichever of them is booked first.
    """
    found = instances(2, max_num_seqs=2)
    config = found.config
    routing = config.routing.model_copy(update={"max_in_flight": 1, "prefill": "least_loaded"})
    found = replace(found, config=config.model_copy(update={"routing": routing}))
    rows = [Row(0.0, 1, 2), Row(0.0, 1, 3), Row(0.5, 1, 1), Row(0.5, 1, 4)]
    assert finish_s(found, workload(rows)) == [2.0, 3.0, 3.0, 7.0]


def test_a_front_end_chooses_among_engines_in_service() -> None:
    """Two data-parallel engines, of which one drains and does not come back: the other one serves all."""
    found = with_fleet(instances(2), event("drain", 0.0, instance=1))
    config = found.config
    engine = config.engine.model_copy(update={"data_parallel_size": 2})
    found = replace(found, config=config.model_copy(update={"engine": engine}))
    system, _ = looked_after(UnifiedSystem, found, workload([Row(1.0, 1, 3), Row(1.5, 1, 3), Row(1.5, 1, 3)]))
    assert by_request(system)["prefill_instance"].tolist() == [0, 0, 0]


def over_memory(policy: str) -> Plan:
    """An instance that takes a second a step, over the memory of its host."""
    given = {
        "model.name": "llama-3.1-8b",
        "engine.tensor_parallel_size": 1,
        "cluster.simulate_racks": 1,
        "cluster.simulate_gpus_per_rack": 8,
        "engine.num_gpu_blocks_override": 64,
        "cache.tiers": ["dram"],
        "cache.write_policy": policy,
        "cache.num_workers": 1,
        "load.warm_caches": False,
        "hardware.dram.capacity_gb": 100 * SMALL["cache.chunk_tokens"] * TOKEN_GB,
    }
    return tiered_plan(SMALL | given).with_instances(step_time=AffineStepTime(coefficients(const_s=1.0)))


@pytest.mark.parametrize(("where", "chunks"), [({"instance": 0}, 4), ({"host": 0}, 0)])
def test_memory_of_a_host_is_lost_with_the_host_alone(where: dict[str, int], chunks: int) -> None:
    prompt = ((5, 32),)
    requests = workload([Row(0.0, pieces=prompt, output_tokens=2), Row(10.0, 1, 1)])
    failed = event("fail", 5.0, duration_s=1.0, **{"instance": None, **where})
    system, _ = looked_after(UnifiedSystem, with_fleet(over_memory("write_through"), failed), requests)
    held = [len(tier) for tiers in system.tiers.hierarchy.tiers.values() for tier in tiers]
    assert held == [chunks]


@pytest.mark.parametrize("kind", ["fail", "drain"])
def test_what_a_gpu_loses_is_written_nowhere(kind: str) -> None:
    """Evicted chunks go down one tier; those of an instance that fails or is started again are lost."""
    found = over_memory("write_back")
    prompt, later = ((5, 32),), Row(10.0, 1, 2)
    requests = workload([Row(0.0, pieces=prompt, output_tokens=2), later, Row(20.0, pieces=prompt, output_tokens=1)])
    system, _ = looked_after(UnifiedSystem, with_fleet(found, event(kind, 5.0, duration_s=1.0)), requests)
    assert system.tiers is not None
    assert [tier.stored for tiers in system.tiers.hierarchy.tiers.values() for tier in tiers] == [0]
    assert by_request(system)["hit_tokens"].tolist() == [0, 0, 0]
