"""Instances that come and go while a system serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kvsim.record.fleet import FleetUse, Incident, RoleFleet
from kvsim.sim.clock import Timer
from kvsim.sim.engine.listener import Role
from kvsim.sim.fleet.clients import Patience
from kvsim.sim.fleet.units import DOWN, DRAINING, OFF, STARTING, UP, RoleUnits, Unit
from kvsim.sim.systems.attempts import Attempts
from kvsim.sim.systems.serving import ServingSystem

_LOOKS_EVERY_S: Final = 0.1
"""How often an instance that is to go or to come back is looked at, while its last step still runs for nobody."""


class Fleet(Attempts):
    """The units of a system: which are up, and how each goes and comes."""

    def __init__(
        self,
        system: ServingSystem,
        patience: Patience,
        *,
        max_resends: int,
        detection_s: float,
        most_in_flight: int | None = None,
    ) -> None:
        """``detection_s``: after which the router knows that an instance has failed. Others as for ``Attempts``."""
        super().__init__(system, patience, max_resends, most_in_flight)
        self._detection_s = detection_s
        self.roles: dict[Role, RoleUnits] = {}
        self._units: dict[Role, list[Unit]] = {}
        """By role, for each engine the unit that it is of."""
        self._draining: dict[Unit, None] = {}
        self._looks = False
        """Whether draining units are going to be looked at again."""
        self.may_grow: Callable[[Role], bool] | None = None
        """Whether somebody starts an instance of a role that is off, when there are no others."""
        size = system.plan.config.engine.data_parallel_size if system.plan.engines_in_step > 1 else 1
        for role, engines in system.engines_by_role().items():
            units = []
            for first in range(0, len(engines), size):
                own = engines[first : first + size]
                gpus = sum([system.gpus_of(role, engine.instance) for engine in own])
                units.append(Unit(role, first // size, own, gpus))
            self.roles[role] = RoleUnits(role, units)
            self._units[role] = [unit for unit in units for _ in unit.engines]

    def units(self, role: Role) -> list[Unit]:
        """The units of a role, by number."""
        return self.roles[role].units

    def unit_of(self, role: Role, instance: int) -> Unit:
        return self._units[role][instance]

    def answers(self, role: Role, instance: int) -> bool:
        return self.unit_of(role, instance).status in (UP, DRAINING)

    def use(self, incidents: tuple[Incident, ...]) -> FleetUse:
        """What became of the fleet and of requests that were sent again, up to now."""
        system = self._system
        roles: list[RoleFleet] = [units.use(self._clock.now) for units in self.roles.values()]
        return FleetUse(
            incidents=incidents,
            roles=tuple(roles),
            requests_hit=self.requests_hit,
            resent=self.resent,
            router_gave_up=self.router_gave_up,
            timed_out=self.timed_out,
            retried=self.retried,
            gave_up=system.gave_up - self.unserved,
            unserved=self.unserved,
            held=self.held,
            lost_prefill_tokens=self.lost_prefill_tokens,
            arrived=system.counts.arrived,
            again_s=np.array(self.again_s),
            failed_arrival_s=np.array(self.failed_arrival_s),
            failed_s=np.array(self.failed_s),
        )

    # A unit goes.

    def fail(self, units: Sequence[Unit], comes_back: bool) -> dict[Unit, tuple[int, int]]:
        """Units are gone at once, all together, with their caches; returns for those that could fail how many requests
        each had, and their computed tokens.
        """
        failed: dict[Unit, tuple[int, int]] = {}
        noticed: list[Unit] = []
        thens: list[tuple[Unit, Callable[[Unit], None]]] = []
        for unit in units:
            if unit.status in (DOWN, OFF):
                continue
            was_known_out = unit.status in (DRAINING, STARTING)
            self._draining.pop(unit, None)
            if unit.then is not None:
                thens.append((unit, unit.then))
                unit.then = None
            self._set(unit, DOWN, comes_back)
            unit.is_known = False
            failed[unit] = self.lose_all_on(unit)
            for engine in unit.engines:
                engine.end_hang()
            self._system.lose_caches(unit.engines)
            if was_known_out or not self._detection_s:
                noticed.append(unit)
        self._notice(noticed)
        epochs = {unit: unit.epoch for unit in failed if not unit.is_known}
        if epochs:
            self._after(self._detection_s, lambda _: self._notice([u for u in epochs if u.epoch == epochs[u]]))
        for unit, then in thens:
            then(unit)
        return failed

    def drain(
        self,
        unit: Unit,
        then: Callable[[Unit], None],
        grace_s: float = math.inf,
        lost: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Send nobody to a unit any more, and call ``then`` when nobody is left there, or after ``grace_s``, when those
        who are left are lost: ``lost`` is told how many these are, and their computed tokens. ``False``: it does not
        serve.
        """
        if unit.status != UP:
            return False
        self._set(unit, DRAINING, comes_back=True)
        unit.then = then
        self._draining[unit] = None
        self._take_out(unit)
        if grace_s < math.inf:
            epoch = unit.epoch
            self._after(grace_s, lambda _: self._grace_is_over(unit, lost) if unit.epoch == epoch else None)
        self.left()
        return True

    def left(self) -> None:
        for unit in list(self._draining):
            if unit not in self._draining:  # gone with one before it, which somebody had waited for
                continue
            numbers = {engine.instance for engine in unit.engines}
            if self._system.is_empty(unit.role, numbers):
                self._drained(unit)
            elif not any(self._system.loads_of(unit.role).load(number) for number in numbers):
                self._look_soon()
        super().left()

    def _look_soon(self) -> None:
        """Look at draining units again: on some a last step may run for nobody, of whose end nobody is told."""
        if not self._looks:
            self._looks = True
            self._after(_LOOKS_EVERY_S, self._look)

    def _look(self, _: Timer) -> None:
        self._looks = False
        self.left()

    def switch_off(self, unit: Unit) -> None:
        """A unit that has nothing is there no more."""
        self._draining.pop(unit, None)
        self._set(unit, OFF, comes_back=False)
        self._take_out(unit)
        self._system.lose_caches(unit.engines)
        self.fail_hopeless()

    def _grace_is_over(self, unit: Unit, lost: Callable[[int, int], None] | None) -> None:
        requests, tokens = self.lose_all_on(unit)
        if lost is not None:
            lost(requests, tokens)
        self.answer_stranded(unit)
        if unit in self._draining:
            self._drained(unit)

    def _drained(self, unit: Unit) -> None:
        del self._draining[unit]
        self._set(unit, DOWN, comes_back=True)
        for engine in unit.engines:
            engine.end_hang()
        self._system.lose_caches(unit.engines)
        then, unit.then = unit.then, None
        if then is not None:
            then(unit)

    def _notice(self, units: Sequence[Unit]) -> None:
        """The router learns that units have failed, of all at once: it sends what one had to none of the others."""
        unknown = [unit for unit in units if not unit.is_known]
        for unit in unknown:
            unit.is_known = True
            self._take_out(unit)
        for unit in unknown:
            self.answer_stranded(unit)
        if unknown:
            self.fail_hopeless()

    # A unit comes.

    def start_after(self, unit: Unit, delay_s: float) -> None:
        """Let a unit serve in so many seconds, with nothing in its caches."""
        if unit.status == OFF:
            self._set(unit, STARTING, comes_back=True)
        unit.comes_back = True
        epoch = unit.epoch
        self._after(delay_s, lambda _: self._start(unit, epoch))

    def _start(self, unit: Unit, epoch: int) -> None:
        if unit.epoch != epoch:
            return
        self._notice([unit])
        if not unit.is_quiet:
            self._after(_LOOKS_EVERY_S, lambda _: self._start(unit, epoch))
            return
        self._system.lose_caches(unit.engines)
        self._set(unit, UP, comes_back=False)
        loads = self._system.loads_of(unit.role)
        for engine in unit.engines:
            if engine.adapter_slots is not None:
                engine.adapter_slots.start()
            loads.put_in(engine.instance)
        self._tell_books()
        self._system.came_back(unit.role)
        self.release_soon()

    # What both do.

    @property
    def gone_gpus(self) -> int:
        """GPUs of instances that have failed and do not come back."""
        every = [unit for units in self.roles.values() for unit in units.units]
        return sum([unit.gpus for unit in every if unit.status == DOWN and not unit.comes_back])

    @property
    def is_hopeless(self) -> bool:
        for units in self.roles.values():
            if self.may_grow is not None and self.may_grow(units.role):
                continue
            if not any(unit.status in (UP, DRAINING) or unit.comes_back for unit in units.units):
                return True
        return False

    def _set(self, unit: Unit, status: int, comes_back: bool) -> None:
        unit.status, unit.comes_back = status, comes_back
        unit.epoch += 1
        self.roles[unit.role].note(self._clock.now)

    def _take_out(self, unit: Unit) -> None:
        loads = self._system.loads_of(unit.role)
        for engine in unit.engines:
            loads.take_out(engine.instance)
        self._tell_books()

    def _tell_books(self) -> None:
        system = self._system
        if system.in_flight is not None:
            loads = system.loads
            system.in_flight.serve_with([each for each in range(len(loads.loads)) if not loads.is_out(each)])

    def _after(self, delay_s: float, callback: Callable[[Timer], None]) -> None:
        self._clock.schedule(self._clock.now + delay_s, callback=callback)
