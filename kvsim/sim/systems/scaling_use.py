"""What a run says of instances that came and went with the load: how many, how late answers were, what it cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvsim.plan.instance import Instance
from kvsim.record.fleet import RoleFleet, RoleScaling, ScalingUse
from kvsim.record.result import Table
from kvsim.record.summary import within_limits
from kvsim.sim.engine.listener import Role
from kvsim.sim.fleet.least_work import Prices, Served, dearest_prices, least_instance_s
from kvsim.sim.systems.scaler import ScaledRole, Scaler
from kvsim.sim.systems.serving import ServingSystem
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.lockstep import times_of_engine
from kvsim.steptime.curves.speculative import SpeculativeStepTime
from kvsim.units import MILLI
from kvsim.workload.workload import Floats

_BIN_S = 60.0
"""Minutes, as agreements on service levels count them."""


def scaling_use(scaler: Scaler, fleets: Sequence[RoleFleet]) -> ScalingUse:
    """What came of a scaler's decisions up to now."""
    system = scaler.system
    table, end_s = system.requests.table(), system.clock.now
    arrivals, late = _by_minute(system, table)
    roles = [
        _of_role(system, table, scaler.roles[role], fleet) for role, fleet in zip(scaler.roles, fleets, strict=True)
    ]
    slo = system.plan.config.slo
    return ScalingUse(tuple(roles), scaler.interval_s, end_s, _BIN_S, arrivals, late, slo.share)


def _of_role(system: ServingSystem, table: Table, scaled: ScaledRole, fleet: RoleFleet) -> RoleScaling:
    settings = scaled.steadied.settings
    minimum = min(settings.minimum, min(fleet.paid))
    work = least_work(system, table, scaled.role)
    least_s = least_instance_s(work, table["arrival_s"], system.clock.now, minimum)
    return RoleScaling(
        role=scaled.role,
        policy=scaled.name,
        minimum=settings.minimum,
        maximum=settings.maximum,
        cold_start=scaled.cold,
        times_s=tuple(scaled.times_s),
        wanted=tuple(scaled.wanted),
        started=scaled.started,
        stopped=scaled.stopped,
        moved_in=scaled.moved_in,
        turns=scaled.turns,
        paid_gpu_s=fleet.gpu_s,
        least_gpu_s=least_s * scaled.gpus,
    )


def least_work(system: ServingSystem, table: Table, role: Role) -> Floats:
    """Seconds that each completed request keeps an instance of a role busy at least."""
    plan = system.plan
    instance: Instance = {"colocated": plan.colocated, "prefill": plan.prefill, "decode": plan.decode}[role]
    if not len(table["arrival_s"]):
        return np.zeros(0)
    prompts, outputs = table["computed_tokens"], table["output_tokens"] - 1
    kv = outputs * table["prompt_tokens"] + outputs * (outputs - 1) / 2
    speculation = instance.settings.speculation
    at_once = 1.0 if speculation is None else speculation.num_tokens + 1.0
    prompts = prompts * (role != "decode")
    outputs, kv = outputs * (role != "prefill") / at_once, kv * (role != "prefill") / at_once
    longest = int((table["prompt_tokens"] + table["output_tokens"]).max())
    served = Served(float(prompts.sum()), float(outputs.sum()), float(kv.sum()))
    prices: Prices = dearest_prices(_times(instance.step_time), instance.settings, served, longest)
    found: Floats = prompts * prices.prompt_token_s + outputs * prices.output_token_s + kv * prices.kv_token_s
    engines = plan.config.engine.data_parallel_size if plan.engines_in_step > 1 else 1
    return found / (instance.settings.pipeline_parallel * engines)


def _times(step_time: StepTime) -> StepTime:
    """Times of an engine's own part of its steps, without what drafts add."""
    times = times_of_engine(step_time)
    return times.target if isinstance(times, SpeculativeStepTime) else times


def _by_minute(system: ServingSystem, table: Table) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Requests that came, and of them those that missed the SLO or have no answer, by the minute of their arrival."""
    slo = system.plan.config.slo
    in_ttft, in_tpot = within_limits(table, slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    is_late = ~(in_ttft & in_tpot)
    failed_s = np.array(system.failed_arrival_s)
    came_s = np.concatenate([table["arrival_s"], failed_s])
    late_s = np.concatenate([table["arrival_s"][is_late], failed_s])
    size = int(came_s.max(initial=0.0) / _BIN_S) + 1
    counts = [np.bincount((times_s / _BIN_S).astype(np.int64), minlength=size).tolist() for times_s in (came_s, late_s)]
    return tuple(counts[0]), tuple(counts[1])
