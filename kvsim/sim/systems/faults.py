"""What happens to a cluster while it serves, on a schedule and at random: ``fleet.events``."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from kvsim.config.fleet_keys import FleetEvent
from kvsim.record.fleet import Incident
from kvsim.sim.clock import Timer
from kvsim.sim.draws import Draws
from kvsim.sim.fleet.targets import Part, Targets
from kvsim.sim.fleet.units import DRAINING, OFF, UP, Unit
from kvsim.sim.systems.fleet import Fleet
from kvsim.sim.systems.serving import ServingSystem
from kvsim.units import SECONDS_PER_HOUR


class Happening:
    """One incident, while it lasts."""

    __slots__ = ("incident", "under_way")

    def __init__(self, kind: str, where: str, begin_s: float) -> None:
        self.incident = Incident(kind, where, begin_s)
        """As far as is known by now."""
        self.under_way = 0
        """Units that drain or restart."""

    def took(self, instances: int, requests: int = 0, tokens: int = 0) -> None:
        """So many more instances were taken, with requests that had so many tokens of their prompts computed there."""
        now = self.incident
        self.incident = replace(
            now,
            instances=now.instances + instances,
            requests_hit=now.requests_hit + requests,
            lost_prefill_tokens=now.lost_prefill_tokens + tokens,
        )


class Faults:
    """Lets events happen to the parts of a system: each a SimPy process of its own."""

    def __init__(self, system: ServingSystem, fleet: Fleet, targets: Targets) -> None:
        self._system, self._fleet, self._targets, self._clock = system, fleet, targets, system.clock
        self._draws = Draws(system.generators[5])
        self.happened: list[Happening] = []
        events = system.plan.config.fleet.events
        for event, parts in zip(events, targets.of_all(events), strict=True):
            self._clock.process(self._at_random(event, parts) if event.at_s is None else self._once(event, parts))

    def incidents(self) -> tuple[Incident, ...]:
        """All of them so far, by the time at which they began."""
        return tuple(sorted([happened.incident for happened in self.happened], key=_begin_s))

    def _once(self, event: FleetEvent, parts: list[Part]) -> Generator[Any, None, None]:
        assert event.at_s is not None
        yield self._clock.schedule(event.at_s)
        self._happen(event, parts)

    def _at_random(self, event: FleetEvent, parts: list[Part]) -> Generator[Any, None, None]:
        """Each part after a time of its own, exponentially distributed: together they are one Poisson process."""
        assert event.mtbf_h is not None
        gap_s = event.mtbf_h * SECONDS_PER_HOUR / len(parts)
        while True:
            yield self._clock.schedule(self._clock.now + self._exponential_s(gap_s))
            self._happen(event, [parts[int(self._draws.uniform() * len(parts))]])

    def _exponential_s(self, mean_s: float) -> float:
        return -mean_s * math.log(1 - self._draws.uniform())

    def _happen(self, event: FleetEvent, parts: list[Part]) -> None:
        duration_s = math.inf if event.duration_s is None else event.duration_s
        if event.mttr_s is not None:
            duration_s = self._exponential_s(event.mttr_s)
        happening = Happening(event.kind, self._targets.name(event, parts), self._clock.now)
        acts: dict[str, Callable[[Happening, FleetEvent, list[Part], float], bool]] = {
            "fail": self._fail,
            "hang": self._hang,
            "slow": self._slow,
            "nic": self._throttle,
            "uplink": self._throttle,
            "pool": self._lose_tiers,
            "drive": self._lose_tiers,
            "drain": self._drain,
            "rolling_restart": self._roll,
        }
        if acts[event.kind](happening, event, parts, duration_s):
            self.happened.append(happening)

    # Instances.

    def _fail(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Units, and where a whole rack or host fails, the memory that stands there."""
        is_lasting = duration_s == math.inf
        failed = self._fleet.fail([unit for part in parts for unit in part.units], not is_lasting)
        for unit, (requests, tokens) in failed.items():
            happening.took(1, requests, tokens)
            if not is_lasting and unit.status != OFF:
                self._fleet.start_after(unit, duration_s)
        tiers = self._lose_tiers(happening, event, parts, duration_s)
        if failed and not tiers:
            self._ends_after(happening, duration_s)
        return bool(failed) or tiers

    def _hang(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Units that serve; one that hangs already is not hung once more at random, only on a schedule."""
        hung = [unit for part in parts for unit in part.units if unit.status in (UP, DRAINING)]
        if event.at_s is None:
            hung = [unit for unit in hung if not any(engine.is_hung for engine in unit.engines)]
        for unit in hung:
            for engine in unit.engines:
                engine.hang_until(self._clock.now + duration_s)
        happening.took(len(hung))
        if hung:
            self._ends_after(happening, duration_s)
        return bool(hung)

    def _slow(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Units that are there; one that is slower by that factor already is not so once more at random."""
        assert event.factor is not None
        slowed = [unit for part in parts for unit in part.units if unit.status != OFF]
        factor = event.factor
        if event.at_s is None:
            slowed = [unit for unit in slowed if factor not in unit.slowdowns]
        for unit in slowed:
            before = math.prod(unit.slowdowns)
            unit.slowdowns.append(factor)
            unit.slow(before, math.prod(unit.slowdowns))
        happening.took(len(slowed))

        def over() -> None:
            for unit in slowed:
                before = math.prod(unit.slowdowns)
                unit.slowdowns.remove(factor)
                unit.slow(before, math.prod(unit.slowdowns))

        if slowed:
            self._ends_after(happening, duration_s, over)
        return bool(slowed)

    def _drain(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        units = [unit for part in parts for unit in part.units]
        drained = [self._drained(happening, unit, event, duration_s, _nothing) for unit in units]
        return any(drained)

    def _roll(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Units one after the other, or so many at a time: the next drains when one is back."""
        left = [unit for part in parts for unit in part.units]
        left.reverse()

        def go_on() -> None:
            while left:
                if self._drained(happening, left.pop(), event, duration_s, go_on):
                    return

        for _ in range(event.at_once or 1):
            go_on()
        return happening.under_way > 0

    def _drained(
        self,
        happening: Happening,
        unit: Unit,
        event: FleetEvent,
        duration_s: float,
        is_back: Callable[[], None],
    ) -> bool:
        """Drain a unit and let it come back with nothing in its caches; ``False``: it does not serve."""
        fleet = self._fleet

        def is_empty(drained: Unit) -> None:
            if duration_s == math.inf:
                drained.comes_back = False
                fleet.fail_hopeless()
                is_back()
                return
            fleet.start_after(drained, duration_s)
            self._clock.schedule(self._clock.now + duration_s, callback=back)

        def back(_: Timer) -> None:
            is_back()
            happening.under_way -= 1
            if not happening.under_way:
                self._end(happening)

        def lost(requests: int, tokens: int) -> None:
            happening.took(0, requests, tokens)

        is_drained = fleet.drain(unit, is_empty, math.inf if event.grace_s is None else event.grace_s, lost)
        if is_drained:
            happening.under_way += 1
            happening.took(1)
        return is_drained

    # Links and tiers.

    def _throttle(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Links carry a share of what they could; of several at a time the least one counts."""
        assert event.share is not None
        share, network = event.share, self._targets.network
        assert network is not None
        links = [link for part in parts for link in part.links]
        for link in links:
            self._targets.limit(link, share, begins=True)

        def over() -> None:
            for link in links:
                self._targets.limit(link, share, begins=False)

        self._ends_after(happening, duration_s, over)
        return True

    def _lose_tiers(self, happening: Happening, event: FleetEvent, parts: list[Part], duration_s: float) -> bool:
        """Tiers lose what they have, and let nothing in until they are back; what is lost already is not lost once more
        at random.
        """
        tiers = dict.fromkeys([tier for part in parts for tier in part.tiers])
        if event.at_s is None:
            tiers = dict.fromkeys([tier for tier in tiers if not self._targets.is_lost(tier)])
        lost = [tier for tier in tiers if self._targets.lose(tier)]

        def over() -> None:
            for tier in lost:
                self._targets.bring_back(tier)

        if lost:
            self._ends_after(happening, duration_s, over)
        return bool(lost)

    def _ends_after(self, happening: Happening, duration_s: float, over: Callable[[], None] | None = None) -> None:
        """Let an incident be over after a while, and ``over`` undo what it did."""

        def ends(_: Timer) -> None:
            self._end(happening)
            if over is not None:
                over()

        if duration_s < math.inf:
            self._clock.schedule(self._clock.now + duration_s, callback=ends)

    def _end(self, happening: Happening) -> None:
        happening.incident = replace(happening.incident, end_s=self._clock.now)


def _begin_s(incident: Incident) -> float:
    return incident.begin_s


def _nothing() -> None:
    """Nothing follows."""
