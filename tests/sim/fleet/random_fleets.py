"""Random small systems to whose instances, links and clients something happens."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from both_ways import random_case
from builders import colocated

from kvsim.config.autoscale_keys import METRICS, Autoscale, RoleScaling, ScheduleEntry
from kvsim.config.fleet_keys import Clients, FleetEvent
from kvsim.plan.plan import Plan
from kvsim.workload.workload import Workload


def random_event(rng: Random, roles: dict[str, int], separated: bool) -> FleetEvent:
    """Something that happens to an instance of one of ``roles``, or to a link."""
    kinds = ["fail", "fail", "fail", "drain", "rolling_restart", "slow", "hang"] + (["nic"] if separated else [])
    kind = rng.choice(kinds)
    role = rng.choice(sorted(roles))
    at_s = rng.choice([0.0, float(rng.randint(0, 30)), rng.uniform(0, 40)])
    lasts = rng.choice([{"duration_s": float(rng.randint(0, 20))}, {"duration_s": rng.uniform(0, 30)}, {"mttr_s": 5.0}])
    if kind in ("fail", "drain", "slow") and rng.random() < 0.15:
        lasts = {}
    given: dict[str, object] = {"kind": kind, "at_s": at_s, "role": role, **lasts}
    if kind != "rolling_restart" and rng.random() < 0.8:
        given["instance"] = rng.randrange(roles[role])
    if kind in ("fail", "slow") and rng.random() < 0.2:
        del given["at_s"]
        given["mtbf_h"] = rng.uniform(5, 40) / 3600
    if kind == "slow":
        given["factor"] = rng.choice([1.0, 2.0, 1.7])
    if kind == "nic":
        given["share"] = rng.choice([1.0, 0.5, 0.01])
    if kind in ("drain", "rolling_restart") and rng.random() < 0.5:
        given["grace_s"] = rng.uniform(0, 15)
    return FleetEvent(**given)  # type: ignore[arg-type]


def random_clients(rng: Random) -> Clients:
    """Clients that wait for ever, or give up and perhaps try again."""
    return Clients(
        timeout_s=rng.choice([None, None, rng.uniform(1, 60), float(rng.randint(1, 40))]),
        retries=rng.choice([0, 1, 3]),
        backoff_s=rng.choice([0.0, 1.0, 2.5]),
        backoff_factor=rng.choice([1.0, 2.0]),
        backoff_max_s=10.0,
        backoff_jitter=rng.choice([0.0, 0.5]),
    )


def random_scaling(rng: Random, shipped: Autoscale, roles: dict[str, int]) -> Autoscale:
    """Instances that come and go by some policy, or do not."""
    policies = ["none", "none", "reactive", "reactive", "reactive", "scheduled", "predictive", "omniscient"]
    most = max(roles.values())
    targets = {
        "queue": rng.choice([1.0, 3.0]),
        "utilisation": rng.choice([0.2, 0.7]),
        "kv": rng.choice([0.1, 0.5]),
        "ttft_ms": rng.choice([500.0, 5000.0]),
        "load": rng.choice([0.3, 1.0]),
    }
    entries = [ScheduleEntry(at_s=rng.uniform(0, 40), instances=rng.randint(1, most)) for _ in range(3)]
    cold = shipped.cold_start.model_copy(
        update={"image_cached": True, "weights_gb_per_s": 1e6, "warmup_s": rng.choice([0.0, 2.0, 7.3])}
    )
    own = (RoleScaling(role=rng.choice(sorted(roles)), policy=rng.choice(policies), metric=rng.choice(METRICS)),)
    changed = {
        "policy": rng.choice(policies),
        "metric": rng.choice(METRICS),
        "targets": shipped.targets.model_copy(update=targets),
        "interval_s": rng.choice([1.0, 2.5]),
        "stabilisation_s": rng.choice([0.0, 5.0]),
        "cooldown_down_s": rng.choice([0.0, 4.0]),
        "max_step_up": rng.choice([None, 1]),
        "initial_instances": rng.choice([None, 1]),
        "drain_grace_s": rng.choice([None, 0.0, 5.0]),
        "role_change_s": rng.choice([None, 1.0]),
        "max_gpus": rng.choice([None, sum(roles.values()), len(roles)]),
        "schedule": tuple(entries),
        "forecast": rng.choice(["trace", "last", "ewma", "holt"]),
        "noise_cv": rng.choice([0.0, 0.5]),
        "roles": own if rng.random() < 0.4 else (),
        "cold_start": cold,
    }
    return shipped.model_copy(update=changed)


def random_fleet(rng: Random, separated: bool) -> tuple[Plan, Workload]:
    """A few tiny instances that fail and come back, or come and go, and clients with little patience."""
    found, requests = random_case(rng)
    roles = {"prefill": found.num_prefill, "decode": found.num_decode}
    if not separated:
        found = colocated(found)
        found = replace(found, num_instances=rng.choice([1, 2, 3]))
        roles = {"colocated": found.num_instances}
    events = tuple(random_event(rng, roles, separated) for _ in range(rng.choice([1, 2, 4])))
    config = found.config
    fleet = config.fleet.model_copy(
        update={
            "events": events,
            "detection_s": rng.choice([0.0, 0.0, 1.0, rng.uniform(0, 5)]),
            "resend": rng.random() < 0.7,
        }
    )
    routing = {
        "prefill": rng.choice(["affinity", "least_loaded", "two_choices", "round_robin", "dynamo", "llmd", "sglang"]),
        "decode": rng.choice(["capacity", "least_loaded", "two_choices", "round_robin"]),
        "max_in_flight": None if separated else rng.choice([None, None, 1, 3]),
    }
    scaling = random_scaling(rng, config.autoscale, roles)
    changed = {
        "fleet": fleet,
        "autoscale": scaling,
        "clients": random_clients(rng),
        "routing": config.routing.model_copy(update=routing),
    }
    changed["fleet"] = fleet.model_copy(update={"max_resends": rng.choice([0, 1, 4])})
    return replace(found, config=config.model_copy(update=changed)), requests
