"""What holds for any settings of ``cache``, ``engine`` and ``routing``.

Leaps give what single steps give, and time has no unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from random import Random
from typing import Any

import numpy as np
from any_config import some_settings
from both_ways import random_times, same_both_ways
from builders import by_request, served
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from tiered_case import case, tiered_plan

from kvsim.config import dump
from kvsim.errors import KvsimError
from kvsim.plan.plan import Plan
from kvsim.sim.network.build_network import host_link_bytes_per_s
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.steptime.curves.speculative import SpeculativeStepTime

TIES = 611, 1133
"""Two engines end steps at one instant, and both meet a tier, or are known for what they have computed."""
RESUMED = 542
"""A preempted request finds chunks of its own answer in a tier."""


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@example(chosen={}, seed=TIES[0])
@example(chosen={}, seed=TIES[1])
@example(chosen={"engine.speculative.method": "eagle3"}, seed=3)
@example(chosen={"cache.connector": "offloading"}, seed=RESUMED)
@given(chosen=some_settings(("cache", "engine", "routing"), most=8), seed=st.integers(0, 1 << 32))
def test_leaps_give_what_single_steps_give(chosen: dict[str, Any], seed: int) -> None:
    try:
        found, requests = case(Random(seed), chosen)
        UnifiedSystem(found, requests, 1)
        PdSystem(found, requests, 1)
    except KvsimError:
        assume(False)
    same_both_ways(UnifiedSystem, found, requests)
    same_both_ways(PdSystem, found, requests)


def half_as_fast(plan: Plan) -> Plan:
    """Everything that takes a time takes twice as long, by the units in the names of keys."""
    slow: dict[str, Any] = {}
    for key, value in flat(dump(plan.config)):
        if key.endswith(("_per_s", ".qps")) and value is not None:
            slow[key] = value / 2
        elif key.endswith(("_s", "_ms", "_us")) and value is not None:
            slow[key] = 2 * value
        else:
            slow[key] = value
    # Its default is the GPU's own link, either direction of which has half of what the key means.
    slow["cluster.network.nvlink_gb_per_s"] = host_link_bytes_per_s(plan) / 1e9
    steps = plan.step_time
    if not isinstance(steps, SpeculativeStepTime):
        return tiered_plan(slow).with_instances(step_time=slowed(steps))
    drafter = None if steps.drafter is None else slowed(steps.drafter)
    both = SpeculativeStepTime(slowed(steps.target), drafter, steps.num_tokens, steps.coefficients)
    return tiered_plan(slow).with_instances(step_time=both)


def slowed(steps: AffineStepTime) -> AffineStepTime:
    c = steps.coefficients
    twice = {each.name: 2 * getattr(c, each.name) for each in fields(c) if re.search("_s(_per|$)", each.name)}
    _, (_, capture_sizes) = steps.__reduce__()
    return AffineStepTime(replace(c, **twice), capture_sizes)


def flat(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(chosen=some_settings(("cache", "engine", "routing"), most=8), seed=st.integers(0, 1 << 32))
def test_half_as_fast_takes_twice_as_long(chosen: dict[str, Any], seed: int) -> None:
    try:
        found, requests = case(Random(seed), chosen)
        found = found.with_instances(step_time=AffineStepTime(random_times(Random(seed))))
        UnifiedSystem(found, requests, 1)
        PdSystem(found, requests, 1)
    except KvsimError:
        assume(False)
    slower, later = half_as_fast(found), replace(requests, arrival_s=2 * requests.arrival_s)
    for system in (UnifiedSystem, PdSystem):
        table = by_request(served(system, found, requests))
        slow = by_request(served(system, slower, later))
        for name, column in table.items():
            factor = 2.0 if name.endswith("_s") else 1.0
            np.testing.assert_allclose(slow[name], factor * column, rtol=1e-9, atol=1e-9, err_msg=name)
