"""Requests of a system: they come, are sent to instances, complete, or are given up, and every one is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.clock import Clock
from kvsim.sim.engine.block_table import OPEN_END
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.fleet.hooks import FleetHooks
from kvsim.sim.log.conservation import RequestCounts
from kvsim.sim.log.requests import RequestLog, request_row
from kvsim.sim.routing import InFlight, Loads, about_to_route
from kvsim.sim.routing.prefill import PrefillRouter
from kvsim.sim.systems.arrivals import Arrivals
from kvsim.sim.systems.front_end import balanced
from kvsim.sim.systems.watcher import Watcher
from kvsim.sim.tiers.lookup import Tiers
from kvsim.workload.request import Request

Progress = Callable[[int, float], None]
"""Told now and then how many requests are done, and the simulated time in seconds."""
_PROGRESS_EVERY: Final = 1000


class Population:
    """The part of a system that knows who is in it. Whoever is built on it sets these."""

    clock: Clock
    watcher: Watcher | None
    requests: RequestLog
    counts: RequestCounts
    tiers: Tiers | None
    prefill_engines: list[Engine]
    """The engines that compute prompts."""
    router: PrefillRouter
    loads: Loads
    """What the router of prompts knows of those engines."""
    in_flight: InFlight | None
    """What a router keeps of the requests it has sent, where it does."""
    fleet: FleetHooks | None
    """Who looks after instances that come and go and requests that are sent again, where any do."""
    sequences: dict[RequestState, Sequence]
    """What requests that are in the system are to the first engine that they go to, or to the one that answers."""
    pinning: int
    """Requests whose KV still leaves the instance that computed it."""
    gave_up: int
    """Requests whose clients have given them up, or that nobody is left to serve."""
    withdrawn: int
    """Times that a request was taken off an engine before it had its answer."""
    failed_arrival_s: list[float]
    """Arrivals of requests that fit nowhere, or were given up."""
    warmup_requests: int
    """The first so many requests are served, and their inter-token latencies not counted."""
    last_role: Role
    """The role of the engines that answers come from."""
    _arrivals: Arrivals | None
    _is_closed: bool
    _progress: Progress | None
    _block_size: int
    _group_size: int

    def arrive(self, request: Request) -> RequestState | None:
        """A request comes now, at its ``arrival_s``; ``None`` where it fits nowhere."""
        self._count_arrival()
        settings: EngineSettings = self.prefill_engines[0].settings
        output_tokens = min(request.output_tokens, settings.max_model_len - request.prompt_tokens)
        if output_tokens < 1 or not self._can_hold(request.prompt_tokens, output_tokens):
            self._refuse(request)
            return None
        state = self.send(request, output_tokens)
        if self.fleet is not None:
            self.fleet.came(state)
        return state

    def send(self, request: Request, output_tokens: int, again: bool = False) -> RequestState:
        """Send a request to where its prompt is computed, or hold it where nobody can take it. ``again``: what was
        sent of it before has come to nothing.
        """
        state = RequestState(request, block_path(request, self._block_size), output_tokens)
        if request.request_id < self.warmup_requests:
            state.measured = 0
        if again:
            state.mark_s = self.clock.now
            state.retry_s = state.mark_s - request.arrival_s
        if self.fleet is not None:  # sent again, it may hit what it has left behind
            state.private_from = OPEN_END
        if self.fleet is None or self.fleet.takes(state):
            self.route(state)
        return state

    def route(self, state: RequestState) -> None:
        """Choose an instance for a request's prompt, and send it there."""
        request = state.request
        if self.fleet is not None:  # others may have been asked about since
            self._can_hold(request.prompt_tokens, state.output_tokens)
        if self.tiers is not None:
            self.tiers.hierarchy.settle()
        about_to_route(self.router, request.adapter)
        instance = self.router.choose(state.path, request.prompt_tokens, request.session_id)
        state.prefill_instance = balanced(self.prefill_engines, instance, self._group_size, self.loads)
        if self.in_flight is not None:
            self.in_flight.begun(request, state.prefill_instance)
        if self.fleet is None or not self.fleet.strands(state):
            self._admit(state)

    def _count_arrival(self) -> None:
        """A request comes now."""
        raise NotImplementedError

    def _refuse(self, request: Request) -> None:
        self.counts.fail(self.clock.now, request.arrival_s)
        if self.watcher is None:
            self.failed_arrival_s.append(self.clock.now)
        else:
            self.watcher.refused(request)
        self._gone(request, failed=True)

    def abort(self, state: RequestState) -> bool:
        """The client of a request has gone: nothing more is scheduled of it, and it counts as failed. ``False``: it is
        over already.
        """
        if not self.drop(state):
            return False
        self.give_up(state.request)
        return True

    def drop(self, state: RequestState) -> bool:
        """Take a request away from wherever it is; ``False``: it is nowhere, and over."""
        if state in self.sequences:
            self.withdrawn += 1
            self._withdraw(state)
        elif self.fleet is None or not self.fleet.dropped(state):
            return False
        if self.fleet is not None:
            self.fleet.left()
        return True

    def give_up(self, request: Request) -> None:
        """A request that is nowhere any more will have no answer."""
        self.gave_up += 1
        self.counts.fail(self.clock.now, request.arrival_s)
        if self.watcher is None:
            self.failed_arrival_s.append(request.arrival_s)
        self._gone(request, failed=True)

    def loads_of(self, role: Role) -> Loads:
        """What routers know of the engines of a role."""
        return self.loads

    def states_on(self, role: Role, numbers: set[int]) -> list[RequestState]:
        """The requests of which something is on the engines of a role with these numbers, in the order in which they
        were sent."""
        return [state for state in self.sequences if state.prefill_instance in numbers]

    def cut_off(self, state: RequestState) -> None:
        """One of the engines that a request has something on is gone: take it off all of them at once."""
        self.withdrawn += 1
        self._withdraw(state)

    def count_stranded(self, state: RequestState, role: Role, amount: int) -> None:
        """To its router a request is on an engine that does not answer: one more with ``amount`` 1, one less at -1."""
        raise NotImplementedError

    def is_empty(self, role: Role, numbers: set[int]) -> bool:
        """Whether nothing of any request is on the engines of a role with these numbers, or on its way there."""
        raise NotImplementedError

    def came_back(self, role: Role) -> None:
        """An engine of a role takes requests again."""

    def _withdraw(self, state: RequestState) -> None:
        """Take a request off the engine that it is on."""
        raise NotImplementedError

    def leaves_prefill(self, state: RequestState) -> None:
        """Nothing of the request is left on the instance that computed its prompt."""
        if self.in_flight is not None:
            self.in_flight.ended(state.request, state.prefill_instance)

    def _can_hold(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether a request fits the blocks of the instances that serve it."""
        return self.prefill_engines[0].settings.fits(prompt_tokens + output_tokens)

    def _admit(self, state: RequestState) -> None:
        """Send a routed request to its first engine."""
        raise NotImplementedError

    def complete(self, state: RequestState) -> None:
        """Count a request whose last token is out."""
        now = self.clock.now
        request = state.request
        hit_tokens, loaded_tokens = state.hit_tokens, 0
        if self.tiers is not None:
            hit_tokens, loaded_tokens = self.tiers.served(state)
        row = request_row(state, now, hit_tokens, loaded_tokens)
        if self.watcher is None:
            self.requests.add(row)
        else:
            self.watcher.completed(state, row)
        counts = self.counts
        counts.complete(now)
        if self._progress is not None and counts.completed % _PROGRESS_EVERY == 0:
            self._progress(counts.completed, now)
        self._gone(request)

    def _gone(self, request: Request, failed: bool = False) -> None:
        """End a request, and the run too, when it was the last."""
        if self.fleet is not None:
            self.fleet.over(request)
        if self._is_closed and self._arrivals is not None:
            self._arrivals.ended(request, failed)
        self._stop_if_over()

    def _stop_if_over(self) -> None:
        counts, arrivals = self.counts, self._arrivals
        if arrivals is None:
            return
        if arrivals.all_sent and counts.completed + counts.failed == counts.arrived and not self.pinning:
            self.clock.stop()
