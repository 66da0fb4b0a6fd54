"""Requests that are sent more than once: held at the router, lost with an instance, given up and tried again."""

from __future__ import annotations

import math

from kvsim.sim.clock import AFTERMATH, Timer
from kvsim.sim.draws import Draws
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.fleet.clients import Patience, Waiting
from kvsim.sim.fleet.hooks import FleetHooks
from kvsim.sim.fleet.units import Unit
from kvsim.sim.systems.serving import ServingSystem
from kvsim.workload.request import Request


class Attempts(FleetHooks):
    """Looks after the requests of a system whose clients give up, or whose instances fail.

    What an instance had that fails is lost: its router learns of that later, and sends the requests to others, from the
    prompt, so many times for each attempt of a client; then that client sees an error. A client whose time is up, or
    who sees an error, sends a request again after a while, so many times, and then gives it up.
    """

    def __init__(self, system: ServingSystem, patience: Patience, max_resends: int, most_in_flight: int | None) -> None:
        """``max_resends``: times that the router sends again what was lost of one attempt of a client.
        ``most_in_flight``: requests that an instance has at a time, more are held at the router; ``None``: no limit.
        """
        self._system, self._clock = system, system.clock
        self._patience, self._max_resends = patience, max_resends
        self._most = math.inf if most_in_flight is None else float(most_in_flight)
        self._draws = Draws(system.generators[4])
        self._held: dict[RequestState, None] = {}
        """Requests that wait at the router, in their order."""
        self._release_set = False
        """Whether they are going to be looked at, at this instant."""
        self._stranded: dict[RequestState, Unit] = {}
        """Requests that the router has sent to instances which do not answer."""
        self._waiting: dict[int, Waiting] = {}
        """Clients whose requests are neither answered nor given up, where they do not wait for ever, by request."""
        self._resends: dict[int, int] = {}
        """By request, where that is not 0: how often the router has sent its client's last attempt again."""
        self.requests_hit = self.resent = self.timed_out = self.retried = self.unserved = self.held = 0
        self.router_gave_up = 0
        self.lost_prefill_tokens = 0
        self.again_s: list[float] = []
        """When requests were sent again, by whomever."""
        self.failed_arrival_s: list[float] = []
        self.failed_s: list[float] = []
        """When requests that have no answer had come, and when they were given up."""

    # What the system asks and tells.

    def takes(self, state: RequestState) -> bool:
        if not self._held and self._has_room():
            return True
        self._held[state] = None
        self.held += 1
        return False

    def strands(self, state: RequestState) -> bool:
        role = self._system.prefill_engines[0].role
        if self.answers(role, state.prefill_instance):
            return False
        self._system.count_stranded(state, role, 1)
        self._stranded[state] = self.unit_of(role, state.prefill_instance)
        self.requests_hit += 1
        return True

    def came(self, state: RequestState) -> None:
        patience = self._patience
        if patience.timeout_s is not None or patience.retries:
            waiting = self._waiting[state.request.request_id] = Waiting(state)
            self._watch(waiting)
        self.fail_hopeless()

    def dropped(self, state: RequestState) -> bool:
        if state in self._held:
            del self._held[state]
            return True
        unit = self._stranded.pop(state, None)
        if unit is None:
            return False
        self._uncount(state, unit)
        return True

    def over(self, request: Request) -> None:
        waiting = self._waiting.pop(request.request_id, None)
        if waiting is not None:
            waiting.attempt = -1
        self._resends.pop(request.request_id, None)
        self.left()

    def left(self) -> None:
        self.release_soon()

    def release_soon(self) -> None:
        """Look at those that wait at the router once every step that ends at this instant has been booked: then it does
        not matter which of them ended first.
        """
        if self._held and not self._release_set:
            self._release_set = True
            self._clock.schedule(self._clock.now, AFTERMATH, self._release)

    def _release(self, _: Timer) -> None:
        self._release_set = False
        self._clock.aftermath_s = self._clock.now
        self.release_held()

    # What instances do.

    @property
    def waiting(self) -> list[RequestState]:
        """The requests that wait at the router, in their order."""
        return list(self._held)

    def unit_of(self, role: Role, instance: int) -> Unit:
        """The unit that an engine is of."""
        raise NotImplementedError

    @property
    def is_hopeless(self) -> bool:
        """Whether some role has nobody left, and nobody comes."""
        raise NotImplementedError

    def release_held(self) -> None:
        """Send those that wait at the router, in their order, while instances can take them."""
        while self._held and self._has_room():
            state = next(iter(self._held))
            del self._held[state]
            if state.mark_s < self._clock.now:
                state.queue_s += self._clock.now - state.mark_s
                state.mark_s = self._clock.now
            self._system.route(state)

    def lose_all_on(self, unit: Unit) -> tuple[int, int]:
        """Cut off every request that has anything on a unit, which the router does not know yet; returns how many
        there were, and how many tokens of their prompts had been computed.
        """
        system, tokens = self._system, 0
        numbers = {engine.instance for engine in unit.engines}
        lost = system.states_on(unit.role, numbers)
        for state in lost:
            system.cut_off(state)
            if unit.role != "decode" and system.in_flight is not None:
                system.in_flight.begun(state.request, state.prefill_instance)
            system.count_stranded(state, unit.role, 1)
            self._stranded[state] = unit
            tokens += state.computed_tokens
        self.requests_hit += len(lost)
        self.lost_prefill_tokens += tokens
        return len(lost), tokens

    def answer_stranded(self, unit: Unit) -> None:
        """The router learns that a unit will not answer the requests that are there."""
        stranded = [state for state, where in self._stranded.items() if where is unit]
        for state in stranded:
            del self._stranded[state]
            self._uncount(state, unit)
        for state in stranded:
            before = self._resends.get(state.request.request_id, 0)
            if before < self._max_resends:
                self._resends[state.request.request_id] = before + 1
                self.resent += 1
                self._send_again(state, by_client=False)
            else:
                self.router_gave_up += before > 0
                self._client_retries(state)

    def fail_hopeless(self) -> None:
        """Let those fail that nobody is left to serve."""
        if not self.is_hopeless:
            return
        system = self._system
        for state in [*self._held, *system.sequences]:
            if self._is_unserved(state) and system.drop(state):
                self.unserved += 1
                self._give_up(state.request)

    def _is_unserved(self, state: RequestState) -> bool:
        """Whether a request has still to come to an instance of a role of which there is none."""
        if state in self._held:
            return True
        return not self.answers(self._system.last_role, max(state.decode_instance, 0))

    def _uncount(self, state: RequestState, unit: Unit) -> None:
        self._system.count_stranded(state, unit.role, -1)
        if unit.role != "decode":
            self._system.leaves_prefill(state)

    def _has_room(self) -> bool:
        loads = self._system.loads
        return loads.in_service > 0 and (self._most == math.inf or loads.held(loads.least()) < self._most)

    # What clients do.

    def _watch(self, waiting: Waiting) -> None:
        """Let the client give up the attempt that it has just made, in time."""
        timeout_s, attempt = self._patience.timeout_s, waiting.attempt
        if timeout_s is not None and waiting.state.request.request_id >= self._patience.patient_requests:
            self._clock.schedule(self._clock.now + timeout_s, callback=lambda _: self._time_is_up(waiting, attempt))

    def _time_is_up(self, waiting: Waiting, attempt: int) -> None:
        is_lost_already = waiting.state in self._stranded
        if waiting.attempt != attempt or not self._system.drop(waiting.state):
            return
        self.timed_out += 1
        if not is_lost_already:
            self.lost_prefill_tokens += waiting.state.computed_tokens
        self._client_retries(waiting.state)

    def _client_retries(self, state: RequestState) -> None:
        """An attempt has come to nothing, which its client knows."""
        self._resends.pop(state.request.request_id, None)
        patience, waiting = self._patience, self._waiting.get(state.request.request_id)
        if waiting is None or waiting.attempt >= patience.retries:
            self._give_up(state.request)
            return
        drawn = self._draws.uniform() if patience.backoff_jitter else 0.0
        wait_s = patience.wait_s(waiting.attempt, drawn)
        waiting.attempt += 1
        self.retried += 1
        self._clock.schedule(self._clock.now + wait_s, callback=lambda _: self._send_again(state, by_client=True))

    def _give_up(self, request: Request) -> None:
        self.failed_arrival_s.append(request.arrival_s)
        self.failed_s.append(self._clock.now)
        self._system.give_up(request)

    def _send_again(self, lost: RequestState, by_client: bool) -> None:
        self.again_s.append(self._clock.now)
        waiting = self._waiting.get(lost.request.request_id)
        state = self._system.send(lost.request, lost.output_tokens, again=True)
        if waiting is not None:
            waiting.state = state
            if by_client:
                self._watch(waiting)
        self.fail_hopeless()
