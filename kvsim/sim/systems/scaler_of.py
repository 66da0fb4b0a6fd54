"""A system gets somebody who decides how many instances it has, where its configuration asks for that."""

from __future__ import annotations

import math

from kvsim.config.autoscale_keys import Autoscale, RoleScaling
from kvsim.errors import ConfigError
from kvsim.plan.cold_start import cold_start_of
from kvsim.policy.scaling import ScalingSettings, Steadied, SteadySettings, make_scaling
from kvsim.sim.engine.listener import Role
from kvsim.sim.fleet.ahead import Ahead, InstanceWork, rates
from kvsim.sim.systems.fleet import Fleet
from kvsim.sim.systems.scaler import ScaledRole, Scaler
from kvsim.sim.systems.serving import ServingSystem
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

_MOST_LOOKS = 10_000_000


def scaler_of(system: ServingSystem, fleet: Fleet) -> Scaler | None:
    """Who decides how many instances of each role there are, with the first of them switched off; ``None``: nobody.

    Raises ``ConfigError`` for bounds that this system cannot keep, and for a policy that cannot be made.
    """
    keys, workload = system.plan.config.autoscale, system.workload
    if not keys.is_on or workload is None:
        return None
    if system.plan.pools:
        raise ConfigError("autoscale.policy and cluster.pools: which kind is to come or go is not modelled; give one")
    looks = (float(workload.arrival_s[-1]) if len(workload) else 0.0) / keys.interval_s
    if looks > _MOST_LOOKS:
        said = f"{looks:,.0f} looks until the last of these requests comes; allowed: up to {_MOST_LOOKS:,}"
        raise ConfigError(f"autoscale.interval_s = {keys.interval_s:g}: {said}")
    roles = {role: _scaled(system, fleet, keys, workload, role) for role in system.engines_by_role()}
    most_gpus = _most_gpus(keys, roles)
    grace_s = math.inf if keys.drain_grace_s is None else keys.drain_grace_s
    scaler = Scaler(system, fleet, roles, keys.interval_s, grace_s, most_gpus, keys.role_change_s)
    scaler.begin({role: _initial(keys, scaled) for role, scaled in roles.items()})
    return scaler


def _own(keys: Autoscale, role: Role) -> RoleScaling:
    """What is different for a role: the later entries of ``autoscale.roles`` count."""
    found: dict[str, object] = {}
    for entry in keys.roles:
        if entry.role == role:
            found |= entry.model_dump(exclude_none=True)
    return RoleScaling(**{"role": role, **found})  # type: ignore[arg-type]


def _scaled(system: ServingSystem, fleet: Fleet, keys: Autoscale, workload: Workload, role: Role) -> ScaledRole:
    own, plan = _own(keys, role), system.plan
    there = len(fleet.units(role))
    minimum = own.min_instances or keys.min_instances
    maximum = min(own.max_instances or keys.max_instances or there, there)
    if minimum > maximum:
        raise ConfigError(f"autoscale.min_instances = {minimum}: must be up to {maximum}, the most {role} instances")
    instance = {"colocated": plan.colocated, "prefill": plan.prefill, "decode": plan.decode}[role]
    cold = cold_start_of(instance, keys.cold_start)
    metric, work = own.metric or keys.metric, InstanceWork(plan, workload, role)
    horizon_s = cold.total_s + keys.interval_s if keys.horizon_s is None else keys.horizon_s
    schedule = sorted((entry.at_s, entry.instances) for entry in keys.schedule if entry.role in (None, role))
    settings = ScalingSettings(
        role=role,
        metric=metric,
        target=_target(keys, own, metric),
        tolerance=keys.tolerance,
        target_load=keys.targets.load,
        instance_requests_per_s=keys.instance_requests_per_s or work.requests_per_s,
        interval_s=keys.interval_s,
        cold_start_s=cold.total_s,
        horizon_s=horizon_s,
        forecast=keys.forecast,
        level_smoothing=keys.level_smoothing,
        trend_smoothing=keys.trend_smoothing,
        noise_cv=keys.noise_cv,
        schedule=tuple(schedule),
        rate_ahead=Ahead(rates(workload, keys.interval_s), keys.interval_s).most,
        load_ahead=Ahead(work.loads(workload, keys.interval_s), keys.interval_s).most,
        random=system.generators[6],
    )
    name = own.policy or keys.policy
    steadied = Steadied(
        SteadySettings(
            minimum,
            maximum,
            keys.stabilisation_s,
            keys.cooldown_up_s,
            keys.cooldown_down_s,
            keys.max_step_up,
            keys.max_step_down,
        )
    )
    policy = make_scaling(name, settings)
    return ScaledRole(role, fleet.units(role)[0].gpus, policy, name, metric, steadied, cold)


def _target(keys: Autoscale, own: RoleScaling, metric: str) -> float:
    given = getattr(keys.targets, "ttft_ms" if metric == "ttft" else metric) if own.target is None else own.target
    return float(given) * (MILLI if metric == "ttft" else 1.0)


def _most_gpus(keys: Autoscale, roles: dict[Role, ScaledRole]) -> float:
    """GPUs that instances may have together; raises ``ConfigError`` where those of the fewest instances are more."""
    if keys.role_change_s is not None and len({scaled.gpus for scaled in roles.values()}) > 1:
        raise ConfigError("autoscale.role_change_s: needs prefill and decode instances of as many GPUs")
    if keys.max_gpus is None:
        return math.inf
    least = sum([scaled.gpus * scaled.steadied.settings.minimum for scaled in roles.values()])
    if least > keys.max_gpus:
        said = f"must be {least} or more, the GPUs of as few instances as there may be"
        raise ConfigError(f"autoscale.max_gpus = {keys.max_gpus}: {said}")
    return float(keys.max_gpus)


def _initial(keys: Autoscale, scaled: ScaledRole) -> int:
    """Instances at the start: as asked for, else as the policy wants, else all."""
    settings = scaled.steadied.settings
    wanted = _own(keys, scaled.role).initial_instances or keys.initial_instances or scaled.policy.first()
    return settings.maximum if wanted is None else min(max(wanted, settings.minimum), settings.maximum)
