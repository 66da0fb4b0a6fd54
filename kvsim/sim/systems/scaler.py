"""Instances that come and go with the load: looks at a system now and then, and has its fleet follow a policy."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from kvsim.plan.cold_start import ColdStart
from kvsim.policy.scaling import ScalingPolicy, Seen, Steadied
from kvsim.sim.engine.listener import Role
from kvsim.sim.fleet.units import OFF, STARTING, UP, Unit
from kvsim.sim.systems.fleet import Fleet
from kvsim.sim.systems.serving import ServingSystem


class ScaledRole:
    """Instances of one role, and what decides how many there are."""

    def __init__(
        self, role: Role, gpus: int, policy: ScalingPolicy, name: str, metric: str, steadied: Steadied, cold: ColdStart
    ) -> None:
        """``gpus``: of one instance. ``name``: of the policy; ``metric``: that it looks at."""
        self.role, self.gpus = role, gpus
        self.policy, self.name, self.metric, self.steadied, self.cold = policy, name, metric, steadied, cold
        self.leaving: dict[Unit, Role | None] = {}
        """Instances that go when they are empty, and the role in which they come back; ``None``: in none."""
        self.incoming = 0
        """Instances of the other role that are going to be of this."""
        self.times_s: list[float] = []
        self.wanted: list[int] = []
        self.started = self.stopped = self.moved_in = self.turns = 0
        self._way = 0
        self.held_block_s: dict[Unit, float] = {}
        """Blocks that instances held up to the last look, integrated over time."""

    def want(self, now_s: float, wanted: int) -> None:
        """Take note of how many there are to be from now on."""
        if self.wanted and wanted != self.wanted[-1]:
            way = 1 if wanted > self.wanted[-1] else -1
            self.turns += self._way == -way
            self._way = way
        if not self.wanted or wanted != self.wanted[-1]:
            self.times_s.append(now_s)
            self.wanted.append(wanted)


class Scaler:
    """Has the instances of a system's roles come and go; a SimPy process."""

    def __init__(
        self,
        system: ServingSystem,
        fleet: Fleet,
        roles: dict[Role, ScaledRole],
        interval_s: float,
        grace_s: float,
        most_gpus: float,
        change_s: float | None,
    ) -> None:
        """``grace_s``: after which what an instance that goes still has is lost. ``most_gpus``: of all roles together.
        ``change_s``: after which an instance that has left one role serves in the other; ``None``: it never does.
        """
        self.system, self._fleet, self._clock, self.roles = system, fleet, system.clock, roles
        self.interval_s = interval_s
        self._grace_s, self._most_gpus, self._change_s = grace_s, most_gpus, change_s
        self._looks = self._arrived = self._rows = 0
        fleet.may_grow = self._may_grow

    def begin(self, initial: dict[Role, int]) -> None:
        """Switch off all but so many instances of each role, and look at the system from now on."""
        self._fit(initial)
        for role, scaled in self.roles.items():
            for unit in self._fleet.units(role)[initial[role] :]:
                self._fleet.switch_off(unit)
            scaled.want(self._clock.now, initial[role])
        self._clock.process(self._looking())

    def _looking(self) -> Generator[Any, None, None]:
        while True:
            self._looks += 1
            yield self._clock.schedule(self._looks * self.interval_s)
            self._look()

    def _look(self) -> None:
        now_s, decided = self._clock.now, {}
        asks_ttft = "ttft" in [scaled.metric for scaled in self.roles.values()]
        ttft_s = self._mean_ttft_s() if asks_ttft else math.nan
        came, self._arrived = self.system.counts.arrived - self._arrived, self.system.counts.arrived
        current = {role: self._current(scaled) for role, scaled in self.roles.items()}
        for role, scaled in self.roles.items():
            seen = self._seen(scaled, current[role], ttft_s, came / self.interval_s)
            policy = scaled.policy
            wanted = policy.wanted(seen)
            decided[role] = scaled.steadied.decided(now_s, wanted, current[role], is_steadied=policy.is_steadied)
        self._fit(decided)
        for role, scaled in self.roles.items():
            scaled.want(now_s, decided[role])
        self._move(decided, current)
        for role, scaled in self.roles.items():
            self._shrink(scaled, current[role] - decided[role], None)
        for role, scaled in self.roles.items():
            self._grow(scaled, decided[role] - current[role])

    # What there is.

    def _current(self, scaled: ScaledRole) -> int:
        """Instances that serve or are going to."""
        found = scaled.incoming
        for unit in self._fleet.units(scaled.role):
            is_here = unit.status == UP or (unit.status != OFF and unit.comes_back)
            found += is_here and unit not in scaled.leaving
        return found

    def _seen(self, scaled: ScaledRole, current: int, ttft_s: float, requests_per_s: float) -> Seen:
        role, system, settings = scaled.role, self.system, scaled.steadied.settings
        serving = [unit for unit in self._fleet.units(role) if unit.status == UP]
        held = [] if role == "decode" else self._fleet.waiting
        queue, used, kv = float(len(held) + system.waits_for(role)), system.held_share(role, held), 0.0
        if scaled.metric == "queue":
            queue += sum([engine.scheduler.num_queued for unit in serving for engine in unit.engines])
        for unit in serving:
            used += self._used(unit)
        if scaled.metric == "kv":
            shares = [(unit, self._kv_share(scaled, unit)) for unit in self._fleet.units(role)]
            kv = sum([share for unit, share in shares if unit.status == UP])
        return Seen(
            now_s=self._clock.now,
            serving=len(serving),
            coming=current - len(serving),
            minimum=settings.minimum,
            maximum=settings.maximum,
            queue=queue,
            utilisation=used,
            kv=kv,
            ttft_s=ttft_s,
            requests_per_s=requests_per_s,
        )

    def _kv_share(self, scaled: ScaledRole, unit: Unit) -> float:
        """Share of the blocks of an instance that requests held since the last look."""
        held = sum([engine.held_so_far_block_s() for engine in unit.engines])
        before = scaled.held_block_s.get(unit, 0.0)
        scaled.held_block_s[unit] = held
        blocks = sum([engine.pool.num_blocks for engine in unit.engines])
        return (held - before) / (blocks * self.interval_s)

    def _mean_ttft_s(self) -> float:
        """Mean TTFT of those who got their first token since the last look; nan: nobody did."""
        now_s, since_s = self._clock.now, self._clock.now - self.interval_s
        log = self.system.requests
        found = [first_s - arrival_s for arrival_s, first_s in log.first_tokens_since(self._rows) if first_s > since_s]
        self._rows = len(log)
        found += [
            state.first_token_s - state.request.arrival_s
            for state in self.system.sequences
            if since_s < state.first_token_s <= now_s
        ]
        return math.fsum(found) / len(found) if found else math.nan

    # What is done.

    def _fit(self, decided: dict[Role, int]) -> None:
        """Take instances away where there are not GPUs enough for all that are wanted: from whoever has the largest
        share of what it may have beyond its least. Those of instances that are gone for good are nobody's.
        """
        most_gpus = self._most_gpus - self._fleet.gone_gpus
        while True:
            gpus = sum([scaled.gpus * decided[role] for role, scaled in self.roles.items()])
            spare = {role: decided[role] - scaled.steadied.settings.minimum for role, scaled in self.roles.items()}
            if gpus <= most_gpus or not any(spare.values()):
                return
            decided[max(spare, key=lambda role: spare[role] * self.roles[role].gpus)] -= 1

    def _move(self, decided: dict[Role, int], current: dict[Role, int]) -> None:
        """Let instances that one role has too many of go to the other, where it has too few."""
        if self._change_s is None or len(decided) < 2:
            return
        both: list[tuple[Role, Role]] = [("prefill", "decode"), ("decode", "prefill")]
        for role, other in both:
            giving, taking = self.roles[role], self.roles[other]
            off = sum([unit.status == OFF for unit in self._fleet.units(other)]) - taking.incoming
            count = min(current[role] - decided[role], decided[other] - current[other], off)
            moved = self._shrink(giving, count, other)
            taking.incoming += moved
            current[role] -= moved
            current[other] += moved

    def _shrink(self, scaled: ScaledRole, count: int, to: Role | None) -> int:
        """Let so many instances go, those that start before those that serve and of those the least loaded; returns how
        many do, as the last one that serves stays.
        """
        units, fleet, gone = self._fleet.units(scaled.role), self._fleet, 0
        if to is None:
            for unit in reversed(units):
                if gone < count and unit.status == STARTING:
                    fleet.switch_off(unit)
                    gone += 1
        serving = [unit for unit in units if unit.status == UP]
        serving.sort(key=lambda unit: (self._used(unit), -unit.number))
        for unit in serving[: max(min(count - gone, len(serving) - 1), 0)]:
            scaled.leaving[unit] = to
            fleet.drain(unit, self._left, self._grace_s)
            gone += 1
        scaled.stopped += gone
        return gone

    def _used(self, unit: Unit) -> float:
        shares = [self.system.used_share(unit.role, engine.instance) for engine in unit.engines]
        return sum(shares) / len(shares)

    def _left(self, unit: Unit) -> None:
        """An instance that was to go is empty, or has failed meanwhile."""
        to = self.roles[unit.role].leaving.pop(unit)
        self._fleet.switch_off(unit)
        if to is not None:
            assert self._change_s is not None
            taking = self.roles[to]
            taking.incoming -= 1
            taking.moved_in += self._start(taking, 1, self._change_s)

    def _grow(self, scaled: ScaledRole, count: int) -> None:
        """Order so many instances, as far as there are GPUs for them: those that go still have theirs."""
        if count <= 0:
            return
        left = self._most_gpus
        for role, each in self.roles.items():
            paid = sum([unit.status != OFF for unit in self._fleet.units(role)])
            left -= each.gpus * paid
        if left < count * scaled.gpus:
            count = max(int(left / scaled.gpus), 0)
        self._start(scaled, count, scaled.cold.total_s)

    def _may_grow(self, role: Role) -> bool:
        """Whether an instance of a role is off for which there are GPUs, when others have no more than they must."""
        least_gpus = self.roles[role].gpus
        for other, scaled in self.roles.items():
            if other != role:
                least_gpus += scaled.gpus * scaled.steadied.settings.minimum
        has_gpus = least_gpus + self._fleet.gone_gpus <= self._most_gpus
        return has_gpus and any(unit.status == OFF for unit in self._fleet.units(role))

    def _start(self, scaled: ScaledRole, count: int, delay_s: float) -> int:
        """Let so many instances that are off serve after a while; returns how many there were."""
        off = [unit for unit in self._fleet.units(scaled.role) if unit.status == OFF][:count]
        for unit in off:
            self._fleet.start_after(unit, delay_s)
        scaled.started += len(off)
        return len(off)
