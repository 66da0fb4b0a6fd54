"""Instances that come and go with the load, against what is worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload

from kvsim.config.autoscale_keys import Coming
from kvsim.errors import ConfigError
from kvsim.plan.cold_start import cold_start_of
from kvsim.plan.plan import Plan
from kvsim.record.fleet import FleetUse, ScalingUse
from kvsim.sim.run import Case, run
from kvsim.workload.workload import Workload

GB = 1e9
WARM = ("autoscale.cold_start.image_cached=true", "autoscale.cold_start.weights_gb_per_s=1e9")


def scaled(num_prefill: int, num_decode: int, *sets: str, cold_s: float = 30.0, **settings: object) -> Plan:
    """Instances whose steps take a tenth of a second, and that take ``cold_s`` to come."""
    sets = (*WARM, "autoscale.cold_start.pcie_gb_per_s=1e9", f"autoscale.cold_start.warmup_s={cold_s}", *sets)
    own = {"max_num_seqs": 4, "max_num_batched_tokens": 64, **settings}
    return plan(num_prefill, num_decode, sets=sets, times=coefficients(const_s=0.1), **own)


def used(found: Plan, requests: Workload, system: str = "unified") -> tuple[FleetUse, ScalingUse]:
    use = run(Case(system, system, found, requests, 1)).system.fleet
    assert use is not None and use.scaling is not None
    return use, use.scaling


def test_a_cold_start_is_the_sum_of_its_sizes_over_their_bandwidths() -> None:
    instance = plan(1, 1).colocated
    keys = Coming(
        node_s=60.0,
        image_gb=10.0,
        registry_gb_per_s=0.5,
        image_cached=False,
        weights_gb_per_s=2.0,
        pcie_gb_per_s=25.0,
        warmup_s=30.0,
    )
    found = cold_start_of(instance, keys)
    assert found.weight_bytes == pytest.approx(2 * 8.03e9, rel=1e-3)  # bf16 weights of Llama 3.1 8B
    parts = (found.node_s, found.image_s, found.weights_s, found.to_gpu_s, found.warmup_s)
    assert parts == (60.0, 20.0, found.weight_bytes / 2e9, found.weight_bytes / 25e9, 30.0)
    assert found.total_s == sum(parts)
    assert cold_start_of(instance, keys.model_copy(update={"image_cached": True})).image_s == 0
    two = replace(instance, spec=replace(instance.spec, tensor_parallel=2))
    assert cold_start_of(two, keys).to_gpu_s == pytest.approx(found.to_gpu_s / 2)


@pytest.mark.parametrize("cold_s", [0.0, 10.0, 37.0])
def test_a_step_of_load_waits_for_exactly_the_cold_start(cold_s: float) -> None:
    """From 100 s on there is work for two instances. The look at 105 s orders one, which serves a cold start later."""
    rows = [Row(0.5 * k, 8, 19) for k in range(200)] + [Row(100 + 0.2 * k, 8, 19) for k in range(800)]
    sets = (
        "autoscale.policy=reactive",
        "autoscale.interval_s=5",
        "autoscale.tolerance=0",
        "autoscale.targets.utilisation=1",
        "autoscale.initial_instances=1",
    )
    use, scaling = used(scaled(1, 1, *sets, cold_s=cold_s, max_num_seqs=8), workload(rows))
    (role,), (scaled_role,) = use.roles, scaling.roles
    assert scaled_role.wanted[:2] == (1, 2)
    ordered_s = scaled_role.times_s[1]
    up_s = next(time_s for time_s, serving in zip(role.times_s, role.serving, strict=True) if serving == 2)
    paid_s = next(time_s for time_s, paid in zip(role.times_s, role.paid, strict=True) if paid == 2)
    assert paid_s == ordered_s
    assert up_s == pytest.approx(ordered_s + cold_s + scaled_role.cold_start.to_gpu_s, abs=1e-6)


@pytest.mark.parametrize(("max_gpus", "answered"), [(1, 0), (2, 2)])
def test_an_instance_that_is_gone_for_good_keeps_its_gpus_from_others(max_gpus: int, answered: int) -> None:
    """Of one GPU none is left for another instance: requests fail at once. A second one is ordered."""
    sets = (
        "autoscale.policy=reactive",
        "autoscale.initial_instances=1",
        f"autoscale.max_gpus={max_gpus}",
        "fleet.events=[{kind: fail, at_s: 1, instance: 0}]",
    )
    use, scaling = used(scaled(1, 1, *sets), workload([Row(0.5, 8, 40), Row(2.0, 8, 40)]))
    assert (use.unserved, scaling.roles[0].started) == (2 - answered, answered // 2)


def test_a_ramp_costs_a_cold_start_of_each_instance_that_it_needs() -> None:
    """One instance more is ordered every minute, by the clock, and every one of them is paid for while it starts: the
    time that instances are paid and do not serve is a cold start each, and nothing else.
    """
    cold_s, steps = 25.0, 5
    entries = ", ".join(f"{{at_s: {60 * k}, instances: {k + 1}}}" for k in range(steps + 1))
    rows = [Row(float(k), 8, 4) for k in range(60 * (steps + 1))]
    sets = ("autoscale.policy=scheduled", f"autoscale.schedule=[{entries}]", "autoscale.interval_s=15")
    use, scaling = used(scaled(3, 3, *sets, cold_s=cold_s), workload(rows))
    (role,), (scaled_role,) = use.roles, scaling.roles
    spans = np.diff(role.times_s)
    unserved_s = float(((np.array(role.paid) - np.array(role.serving))[:-1] * spans).sum())
    assert scaled_role.started == steps and scaled_role.stopped == 0
    assert unserved_s == pytest.approx(steps * cold_s, rel=1e-6)
    assert role.serving[-1] == steps + 1
    serves_s = [time_s for time_s, serving in zip(role.times_s, role.serving, strict=True) if serving > 1]
    assert serves_s[0] == pytest.approx(60 + cold_s, rel=1e-6)
    paid_s = sum(use.roles[0].paid[k] * span for k, span in enumerate(spans))
    end_s = role.times_s[-1]
    assert (
        role.gpu_s == pytest.approx(paid_s) == pytest.approx(end_s + sum(end_s - 60 * k for k in range(1, steps + 1)))
    )


def test_nobody_is_lost_who_is_still_served_by_an_instance_that_goes() -> None:
    rows = [Row(0.1 * k, 8, 40) for k in range(40)] + [Row(400.0, 8, 4)]
    sets = (
        "autoscale.policy=scheduled",
        "autoscale.schedule=[{at_s: 0, instances: 4}, {at_s: 5, instances: 1}]",
        "autoscale.interval_s=1",
    )
    use, scaling = used(scaled(2, 2, *sets, max_num_seqs=16), workload(rows))
    assert use.requests_hit == use.resent == 0
    assert use.roles[0].serving[1:3] == (1, 1) and use.roles[0].paid[-1] == 1
    assert scaling.roles[0].stopped == 3
    use, _ = used(scaled(2, 2, *sets, "autoscale.drain_grace_s=0.5", max_num_seqs=16), workload(rows))
    assert use.requests_hit == use.resent > 10


def test_an_instance_that_starts_is_the_first_to_go() -> None:
    sets = (
        "autoscale.policy=scheduled",
        "autoscale.schedule=[{at_s: 0, instances: 1}, {at_s: 10, instances: 4}, {at_s: 20, instances: 2}]",
        "autoscale.interval_s=1",
    )
    use, scaling = used(scaled(2, 2, *sets, cold_s=60.0), workload([Row(float(k), 8, 4) for k in range(200)]))
    role = use.roles[0]
    at_s = dict(zip(role.times_s, zip(role.serving, role.paid, role.starting, strict=True), strict=True))
    assert at_s[10.0] == (1, 4, 3) and at_s[20.0] == (1, 2, 1)
    assert scaling.roles[0].turns == 1 and scaling.turns_per_hour == pytest.approx(3600 / scaling.end_s)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["autoscale.min_instances=5"], "autoscale.min_instances = 5: must be up to 4, the most colocated instances"),
        (["autoscale.max_gpus=2", "autoscale.min_instances=3"], "autoscale.max_gpus = 2: must be 3 or more"),
    ],
)
def test_bounds_that_cannot_be_kept(sets: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        used(scaled(2, 2, "autoscale.policy=reactive", *sets), workload([Row(0.0, 8)]))


def test_minutes_count_who_is_late() -> None:
    scaling = ScalingUse((), 15.0, 180.0, 60.0, (100, 100, 0), (1, 2, 0), 0.99)
    assert scaling.late_share == pytest.approx(3 / 200)
    assert scaling.violated_s == 60.0
    assert math.isnan(scaling.gap) and scaling.gpu_h == 0


def moving(*sets: str) -> tuple[FleetUse, ScalingUse]:
    """Two prefill instances become one at 50 s, one decode instance two; a cold start takes 30 s."""
    entries = (
        "{at_s: 0, instances: 2, role: prefill}, {at_s: 50, instances: 1, role: prefill}, "
        "{at_s: 0, instances: 1, role: decode}, {at_s: 50, instances: 2, role: decode}"
    )
    sets = ("autoscale.policy=scheduled", f"autoscale.schedule=[{entries}]", "autoscale.interval_s=5", *sets)
    return used(scaled(2, 2, *sets), workload([Row(0.5 * k, 8, 10) for k in range(400)]), "pd")


def test_an_instance_changes_its_role_in_less_than_a_cold_start() -> None:
    use, scaling = moving("autoscale.role_change_s=4", "autoscale.max_gpus=3")
    prefill, decode = use.roles
    decoded = next(time_s for time_s, serving in zip(decode.times_s, decode.serving, strict=True) if serving == 2)
    left = next(time_s for time_s, paid in zip(prefill.times_s, prefill.paid, strict=True) if paid == 1)
    assert left >= 50 and decoded == pytest.approx(left + 4, abs=1e-6) and left < 53
    assert [role.moved_in for role in scaling.roles] == [0, 1]
    times_s = sorted({*prefill.times_s, *decode.times_s})
    for time_s in times_s:
        paid = [role.paid[np.searchsorted(role.times_s, time_s, side="right") - 1] for role in use.roles]
        assert sum(paid) == 3


def test_without_moves_gpus_are_free_once_an_instance_has_gone() -> None:
    use, scaling = moving("autoscale.max_gpus=3")
    decode = use.roles[1]
    ordered = next(time_s for time_s, starting in zip(decode.times_s, decode.starting, strict=True) if starting)
    served = next(time_s for time_s, serving in zip(decode.times_s, decode.serving, strict=True) if serving == 2)
    left = next(time_s for time_s, paid in zip(use.roles[0].times_s, use.roles[0].paid, strict=True) if paid == 1)
    assert left <= ordered <= left + 5 and ordered % 5 == 0
    assert served == pytest.approx(ordered + 30, abs=1e-6)
    assert not any(role.moved_in for role in scaling.roles)


def test_gpus_that_are_too_few_for_all_go_round() -> None:
    use, scaling = moving("autoscale.max_gpus=2")
    assert [role.paid[0] for role in use.roles] == [1, 1]
    assert {wanted for role in scaling.roles for wanted in role.wanted} == {1}


def test_each_role_has_its_own_policy() -> None:
    entries = "[{role: prefill, policy: scheduled, max_instances: 1}, {role: decode, initial_instances: 2}]"
    sets = ("autoscale.schedule=[{at_s: 0, instances: 2}]", f"autoscale.roles={entries}")
    use, scaling = used(scaled(2, 2, *sets), workload([Row(float(k), 8, 4) for k in range(100)]), "pd")
    assert [(role.policy, role.maximum) for role in scaling.roles] == [("scheduled", 1), ("none", 2)]
    assert [set(role.serving) for role in use.roles] == [{1}, {2}]
