"""A system gets somebody who looks after its instances and its clients, where its configuration asks for that."""

from __future__ import annotations

from dataclasses import replace

from kvsim.config import Config
from kvsim.config.fleet_keys import Clients
from kvsim.errors import ConfigError, EventError
from kvsim.record.fleet import FleetUse
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.fleet.targets import Targets
from kvsim.sim.systems.faults import Faults
from kvsim.sim.systems.fleet import Fleet
from kvsim.sim.systems.scaler import Scaler
from kvsim.sim.systems.scaler_of import scaler_of
from kvsim.sim.systems.scaling_use import scaling_use
from kvsim.sim.systems.serving import ServingSystem


class Looked:
    """Who looks after a system."""

    __slots__ = ("faults", "fleet", "scaler")

    def __init__(self, fleet: Fleet, faults: Faults, scaler: Scaler | None) -> None:
        self.fleet, self.faults, self.scaler = fleet, faults, scaler

    def use(self) -> FleetUse:
        """What became of the fleet up to now."""
        found = self.fleet.use(self.faults.incidents())
        return found if self.scaler is None else replace(found, scaling=scaling_use(self.scaler, found.roles))


def look_after(system: ServingSystem, patience: Patience | None) -> Looked | None:
    """Give a system who looks after it, where something may happen to its instances, they come and go with the load,
    or clients do not wait for ever.

    ``patience``: of clients, in the place of the configured one. Raises ``ConfigError`` for events that are about
    nobody, or that its engines cannot have.
    """
    config = system.plan.config
    clients = patience or patience_of(config.clients)
    most = config.routing.max_in_flight
    if clients is None and not is_looked_after(config):
        return None
    if most is not None and system.name == "pd":
        raise ConfigError("routing.max_in_flight: counts the requests of colocated instances; prefill/decode has none")
    own = config.fleet
    patient = clients or Patience(None)
    max_resends = own.max_resends if own.resend else 0
    fleet = Fleet(system, patient, max_resends=max_resends, detection_s=own.detection_s, most_in_flight=most)
    system.fleet = fleet
    _check_kinds(system)
    faults = Faults(system, fleet, _targets(system, fleet))
    return Looked(fleet, faults, scaler_of(system, fleet))


def is_looked_after(config: Config) -> bool:
    """Whether something may happen to instances, or clients or routers do more than to wait and to send."""
    has_limit = config.routing.max_in_flight is not None
    return bool(config.fleet.events) or config.autoscale.is_on or has_limit or patience_of(config.clients) is not None


def patience_of(clients: Clients) -> Patience | None:
    """What the configured clients do; ``None``: they wait for ever, and send nothing again."""
    if clients.timeout_s is None and not clients.retries:
        return None
    return Patience(
        clients.timeout_s,
        0,
        clients.retries,
        clients.backoff_s,
        clients.backoff_factor,
        clients.backoff_max_s,
        clients.backoff_jitter,
    )


def _targets(system: ServingSystem, fleet: Fleet) -> Targets:
    units = [unit for role in system.engines_by_role() for unit in fleet.units(role)]
    config = system.plan.config
    return Targets(
        units,
        [system.place_of(unit.engines[0]) for unit in units],
        system.network_between(),
        [system.node_of(unit.engines[0]) for unit in units],
        None if system.tiers is None else system.tiers.hierarchy,
        config.hardware.dram.scope,
        config.cluster.ssd_scope,
    )


def _check_kinds(system: ServingSystem) -> None:
    """Engines whose steps do not begin one by one at their own speed can be neither slowed down nor stopped."""
    engine = system.engines()[0]
    settings, kinds = engine.settings, {event.kind for event in system.plan.config.fleet.events}
    reasons = {
        "pipeline parallelism": settings.pipeline_parallel > 1,
        "speculative decoding": settings.speculation is not None,
        "data-parallel engines that share experts": system.plan.engines_in_step > 1,
    }
    for reason, is_so in reasons.items():
        for kind in ("slow", "hang"):
            if is_so and kind in kinds:
                raise EventError(f"fleet.events: {kind} is not modelled with {reason}")
