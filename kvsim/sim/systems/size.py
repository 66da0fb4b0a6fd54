"""What a simulation takes, estimated before it is built: memory and CPU time, against what there is and is allowed."""

from __future__ import annotations

import numpy as np

from kvsim import room
from kvsim.errors import CapacityError
from kvsim.plan.plan import INSTANCE_BYTES, TIERED_INSTANCE_BYTES, Plan
from kvsim.workload.workload import Workload

REQUEST_BYTES = 1_000
"""Memory of a request that is served, its row of the results and the blocks it leaves in caches."""
ROW_BYTES = 250
"""Memory of a request's row of the results, and of what is made of one column of them at a time."""
REQUEST_S, STEP_S, TOKEN_S = 150e-6, 25e-6, 1e-6
"""CPU time of a request, of each step that computes a part of its prompt and, one event a step, of each of its tokens;
of the sources on a 2026 server core. Compiled they take half of it."""


def check_size(plan: Plan, workload: Workload) -> None:
    """Raise ``CapacityError`` where simulating ``workload`` on ``plan`` takes more memory or time than there is.

    Both are estimates from below: what is refused would not have ended well.
    """
    requests, instances = len(workload), _num_instances(plan)
    fitting = room.about(room.most(REQUEST_BYTES, _instances_bytes(plan)))
    room.require(
        needed_bytes(plan, workload),
        f"{requests:,} requests on {instances:,} instances",
        f"up to about {fitting} requests would fit",
    )
    _check_time(plan, workload)


def _check_time(plan: Plan, workload: Workload) -> None:
    limit_s, cpu_s = plan.config.limits.cpu_s, least_cpu_s(plan, workload)
    if cpu_s > limit_s:
        allowed = f"limits.cpu_s = {limit_s:g} allows {_allowed(plan, workload, limit_s)}"
        raise CapacityError(f"{_taking(plan, workload, cpu_s)}; {allowed}")


def check_parts(plan: Plan, workload: Workload, parts: int) -> None:
    """As :func:`check_size`, of a run that is made of several of about the same size, one after the other."""
    requests, instances = len(workload), _num_instances(plan)
    others = _instances_bytes(plan) / parts
    fitting = room.about(room.most(ROW_BYTES + REQUEST_BYTES / parts, others))
    room.require(
        needed_by_parts_bytes(plan, workload, parts, 1),
        f"{requests:,} requests on {instances:,} instances, in {parts:,} parts",
        f"up to about {fitting} requests would fit",
    )
    _check_time(plan, workload)


def needed_by_parts_bytes(plan: Plan, workload: Workload, parts: int, at_once: int) -> float:
    """Memory that simulating ``workload`` on ``plan`` takes in so many parts, so many at a time, about."""
    return len(workload) * ROW_BYTES + needed_bytes(plan, workload) * at_once / parts


def needed_bytes(plan: Plan, workload: Workload) -> float:
    """Memory that simulating ``workload`` on ``plan`` takes, about."""
    return len(workload) * REQUEST_BYTES + _instances_bytes(plan)


def _num_instances(plan: Plan) -> int:
    return max(plan.num_instances, plan.num_prefill + plan.num_decode)


def _instances_bytes(plan: Plan) -> float:
    return _num_instances(plan) * (TIERED_INSTANCE_BYTES if plan.tiers else INSTANCE_BYTES)


def least_cpu_s(plan: Plan, workload: Workload) -> float:
    """CPU seconds that simulating ``workload`` takes at least, on the sources."""
    settings = plan.colocated_settings
    tokens, speculation = 0.0, settings.speculation
    is_stepwise = settings.stepwise or settings.pipeline_parallel > 1
    if is_stepwise or speculation is not None or plan.engines_in_step > 1:
        tokens = float(workload.output_tokens.sum(dtype=np.int64))
        tokens /= 1.0 if speculation is None else speculation.tokens_per_step
    return REQUEST_S * len(workload) + STEP_S * _prompt_steps(plan, workload) + TOKEN_S * tokens


def _prompt_steps(plan: Plan, workload: Workload) -> float:
    """Steps that prompts are cut into where nothing is cached and each step takes as much as it may."""
    settings = plan.colocated_settings
    served = workload.prompt_tokens[workload.prompt_tokens < settings.max_model_len]
    shared = workload.info.infinite_cache_hit_rate_tokens or 0.0
    return float(served.sum(dtype=np.int64)) * (1 - shared) / settings.max_num_batched_tokens


def _taking(plan: Plan, workload: Workload, cpu_s: float) -> str:
    steps, budget = _prompt_steps(plan, workload), plan.colocated_settings.max_num_batched_tokens
    each = "token" if budget == 1 else "tokens"
    return f"{len(workload):,} requests, {steps:,.3g} steps of {budget:,} {each}: {cpu_s:,.3g} s of CPU time or more"


def _allowed(plan: Plan, workload: Workload, limit_s: float) -> str:
    """What would fit: fewer requests of this kind, or larger steps where those are what takes so long."""
    share = limit_s / least_cpu_s(plan, workload)
    found = f"about {room.about(share * len(workload))} of these requests"
    steps_s = STEP_S * _prompt_steps(plan, workload)
    rest_s = limit_s - least_cpu_s(plan, workload) + steps_s
    if rest_s > 0 and steps_s > limit_s / 2:
        budget = plan.colocated_settings.max_num_batched_tokens * steps_s / rest_s
        found += f", or all of them in steps of {int(budget) + 1:,} tokens"
    return found
