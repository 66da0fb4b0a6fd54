"""Serving requests that come while simulated time runs: who drives it says how far time goes, and what comes when.

The engines are those of a run (``kvsim.sim.run``), step by step: requests that come at the same times are served alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol

from kvsim.errors import ConfigError
from kvsim.plan.plan import ROLES, Plan
from kvsim.sim.clock import Timer
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.systems.forgetting import forget
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.request import Request

MOST_REMEMBERED = 1 << 14
"""Sessions, and chains that are cached nowhere, of which routers and tiers remember something."""
_FORGETS_EVERY: Final = 1024
"""Requests."""


class RequestFacts(NamedTuple):
    """What became of a request whose answer is complete: a row of ``kvsim.record.result.COLUMNS``. Times in seconds;
    those that end in ``_s`` from ``retry_s`` on are the parts of the time to first token.
    """

    request_id: int
    arrival_s: float
    first_token_s: float
    finish_s: float
    prompt_tokens: int
    output_tokens: int
    hit_tokens: int
    """Prompt tokens from the engine's own prefix cache."""
    loaded_tokens: int
    """Prompt tokens from tiers below."""
    computed_tokens: int
    recomputed_tokens: int
    preemptions: int
    prefill_instance: int
    decode_instance: int
    transferred_bytes: float
    retry_s: float
    """Until the attempt was sent that was answered."""
    proxy_s: float
    queue_s: float
    interference_s: float
    preemption_s: float
    tier_load_s: float
    prefill_s: float
    transfer_s: float
    decode_wait_s: float
    first_decode_s: float

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were not computed, wherever they came from."""
        return self.hit_tokens + self.loaded_tokens

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrival_s

    @property
    def e2e_s(self) -> float:
        return self.finish_s - self.arrival_s


class Listener(Protocol):
    """Told of requests, at the simulated instant at which it happens; of one that was aborted, nothing more. It may not
    call the ``OnlineServing`` that tells it.
    """

    def tokens(self, request_id: int, count: int, time_s: float) -> None:
        """So many more tokens of the answer are out; they sum to its ``output_tokens``."""

    def finished(self, request_id: int, facts: RequestFacts) -> None:
        """The answer is complete: all of its tokens have been told."""

    def refused(self, request_id: int) -> None:
        """The request fits nowhere, however long it waits."""


@dataclass(frozen=True)
class InstanceState:
    """One instance now, and what it has done so far, in requests, KV blocks and tokens."""

    role: str
    """``colocated``, ``prefill`` or ``decode``."""
    number: int
    """Among those of its role, from 0."""
    running: int
    waiting: int
    """Requests that are in no step, those that stand aside for a load among them."""
    total_blocks: int
    free_blocks: int
    """Blocks that no request holds, cached ones among them."""
    preemptions: int
    prefix_query_tokens: int
    """Tokens of requests that were admitted for the first time."""
    prefix_hit_tokens: int
    """Tokens found in the instance's own prefix cache; what is loaded on arrival of a request counts as there."""
    external_query_tokens: int
    """Not in the own cache, where there are tiers, or a prefill instance, to have them from."""
    external_hit_tokens: int

    @property
    def kv_usage(self) -> float:
        """Share of the blocks that requests hold, 0..1."""
        return 1.0 - self.free_blocks / self.total_blocks


@dataclass(frozen=True)
class OnlineState:
    """All instances now, and what has become of requests so far."""

    now_s: float
    instances: tuple[InstanceState, ...]
    in_flight: int
    """Requests that are neither finished nor aborted nor refused, wherever they are."""
    arrived: int
    finished: int
    aborted: int
    refused: int
    prompt_tokens: int
    """Tokens of prompts whose first token is out."""
    generation_tokens: int

    @property
    def running(self) -> int:
        return sum(instance.running for instance in self.instances)

    @property
    def waiting(self) -> int:
        return sum(instance.waiting for instance in self.instances)

    @property
    def total_blocks(self) -> int:
        return sum(instance.total_blocks for instance in self.instances)

    @property
    def free_blocks(self) -> int:
        return sum(instance.free_blocks for instance in self.instances)

    @property
    def kv_usage(self) -> float:
        """Share of all blocks that requests hold, 0..1."""
        return 1.0 - self.free_blocks / self.total_blocks

    @property
    def preemptions(self) -> int:
        return sum(instance.preemptions for instance in self.instances)

    @property
    def prefix_query_tokens(self) -> int:
        return sum(instance.prefix_query_tokens for instance in self.instances)

    @property
    def prefix_hit_tokens(self) -> int:
        return sum(instance.prefix_hit_tokens for instance in self.instances)

    @property
    def external_query_tokens(self) -> int:
        return sum(instance.external_query_tokens for instance in self.instances)

    @property
    def external_hit_tokens(self) -> int:
        return sum(instance.external_hit_tokens for instance in self.instances)


class OnlineServing:
    """A cluster that serves for ever, in memory that does not grow with the number of requests."""

    def __init__(self, plan: Plan, system: Literal["unified", "pd"], seed: int, listener: Listener) -> None:
        """Time begins at 0, with empty caches. ``system``: as in ``kvsim.sim.run``; ``seed``: of routers, jitter and
        drafts. Raises ``ConfigError`` where ``plan`` has no such system, a policy that knows what will come, or cells.
        """
        if system == "pd" and not (plan.num_prefill and plan.num_decode):
            raise ConfigError("this plan has no prefill and decode instances; allowed: the system 'unified'")
        if plan.cells > 1:
            raise ConfigError(f"routing.cells makes {plan.cells} cells; allowed: null, one router for all who ask")
        _check_calm(plan)
        stepwise = plan.with_settings(*ROLES, stepwise=True).drafting_with(seed)
        self._told = _Told(listener)
        kind: type[PdSystem] | type[UnifiedSystem] = PdSystem if system == "pd" else UnifiedSystem
        self._system: ServingSystem = kind(stepwise, None, seed, watcher=self._told)
        self._told.now = self._now
        self._system.clock.run_until(0.0)
        self._is_busy = False
        self._scheduled: dict[int, Request] = {}
        """Requests that are to come, by id."""
        self._sent = 0

    @property
    def now_s(self) -> float:
        """Simulated time, in seconds."""
        return self._system.clock.now

    @property
    def next_event_s(self) -> float:
        """When something happens next by itself; infinity: nothing does before a request comes."""
        return self._system.clock.next_event_s()

    @property
    def block_size(self) -> int:
        """Tokens of a KV block."""
        return self._system.plan.spec.block_size_tokens

    @property
    def most_cached_blocks(self) -> int:
        """Blocks that all caches together hold at most: of instances and of the tiers below them."""
        blocks = sum(engine.settings.num_blocks for engine in self._system.engines())
        tiers = self._system.tiers
        if tiers is not None:
            chunk_blocks = tiers.hierarchy.rules.chunk_tokens // self.block_size
            kinds = tiers.hierarchy.tiers.values()
            blocks += chunk_blocks * sum(tier.capacity_chunks for own in kinds for tier in own)
        return blocks

    def holds(self, chain: int) -> bool:
        """Whether anything of a chain may be cached somewhere, or is of a request in flight."""
        system = self._system
        if chain in self._told.chains or system.index.knows(chain):
            return True
        if system.tiers is not None and system.tiers.hierarchy.directory.holders(chain):
            return True
        return any(engine.pool.may_cache(chain) for engine in system.engines_by_role().get("decode", ()))

    def advance(self, to_s: float) -> None:
        """Let everything happen that is due up to ``to_s``, that instant included; then it is ``to_s``."""
        if not self.now_s <= to_s < math.inf:
            raise ValueError(f"advance to {to_s} s; allowed: from now, {self.now_s} s, to any finite time")
        with self._alone():
            self._system.clock.run_until(to_s)

    def send(self, request: Request, at_s: float | None = None) -> None:
        """A request comes now: its ``arrival_s`` is set to that. Its id must be no other's that is in flight.

        ``at_s``: it comes then instead, before steps that end at that very instant.
        """
        row = request.request_id
        if row in self._told.states or row in self._scheduled:
            raise ValueError(f"request {row} is in flight")
        now = self.now_s
        if at_s is not None and not now <= at_s < math.inf:
            raise ValueError(f"request {row} at {at_s} s; allowed: from now, {now} s, to any finite time")
        with self._alone():
            self._told.begun(request)
            self._sent += 1
            if self._sent % _FORGETS_EVERY == 0:
                forget(self._system, MOST_REMEMBERED)
            if at_s is None:
                self._arrive(request._replace(arrival_s=now))
            else:
                self._scheduled[row] = request
                self._system.clock.schedule(at_s, callback=partial(self._come, request._replace(arrival_s=at_s)))

    def abort(self, request_id: int) -> bool:
        """The client of a request has gone: it leaves the engines by vLLM's rule, and frees what it holds. ``False``:
        nobody knows it, or it is over.
        """
        scheduled = self._scheduled.pop(request_id, None)
        if scheduled is not None:
            self._told.over(scheduled)
            return True
        state = self._told.states.get(request_id)
        if state is None:
            return False
        with self._alone():
            self._told.over(state.request)
            return self._system.abort(state)

    def reset_prefix_cache(self) -> None:
        """Forget what is cached on instances and no request holds; tiers keep what they have."""
        with self._alone():
            for engine in self._system.engines():
                engine.forget()

    def state(self) -> OnlineState:
        """How things stand."""
        system, told = self._system, self._told
        counts = system.counts
        has_tiers = system.tiers is not None
        return OnlineState(
            now_s=system.clock.now,
            instances=tuple(_instance_state(engine, has_tiers) for engine in system.engines()),
            in_flight=counts.in_flight,
            arrived=counts.arrived,
            finished=counts.completed,
            aborted=system.gave_up,
            refused=counts.failed - system.gave_up,
            prompt_tokens=told.prompt_tokens,
            generation_tokens=told.generation_tokens,
        )

    def check_integrity(self) -> None:
        """Assert that the books of blocks and tiers agree; for tests."""
        for engine in self._system.engines():
            engine.pool.check_integrity()
        if self._system.tiers is not None:
            self._system.tiers.hierarchy.check_integrity()

    def _now(self) -> float:
        return self._system.clock.now

    def _come(self, request: Request, _: Timer) -> None:
        if self._scheduled.pop(request.request_id, None) is not None:
            self._arrive(request)

    def _arrive(self, request: Request) -> None:
        state = self._system.arrive(request)
        if state is not None:
            self._told.states[request.request_id] = state

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody who is told of something may change what happens: an event is under way."""
        if self._is_busy:
            raise RuntimeError("a listener called the OnlineServing that was telling it something")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False


class _Told:
    """Who a system tells of its requests: it counts, and passes on."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.now: Callable[[], float] = float
        """The simulated time, once there is one."""
        self.states: dict[int, RequestState] = {}
        """Requests in flight, by id."""
        self.chains: dict[int, int] = {}
        """Requests that were sent and are not over, by chain of their prompts and answers: how many."""
        self.prompt_tokens = self.generation_tokens = 0

    def begun(self, request: Request) -> None:
        """A request is sent."""
        for chain in _chains_of(request):
            self.chains[chain] = self.chains.get(chain, 0) + 1

    def over(self, request: Request) -> None:
        """A request is finished, aborted or refused."""
        self.states.pop(request.request_id, None)
        for chain in _chains_of(request):
            left = self.chains[chain] - 1
            if left:
                self.chains[chain] = left
            else:
                del self.chains[chain]

    def tokens(self, state: RequestState, count: int, is_first: bool) -> None:
        self.generation_tokens += count
        if is_first:
            self.prompt_tokens += state.request.prompt_tokens
        self._listener.tokens(state.request.request_id, count, self.now())

    def completed(self, state: RequestState, row: tuple[float, ...]) -> None:
        self.over(state.request)
        self._listener.finished(state.request.request_id, RequestFacts._make(row))

    def refused(self, request: Request) -> None:
        self.over(request)
        self._listener.refused(request.request_id)


def _check_calm(plan: Plan) -> None:
    """Refuse what a run does to instances and for clients, and nobody here would: it would be ignored in silence."""
    fleet, clients, most = plan.config.fleet, plan.config.clients, plan.config.routing.max_in_flight
    has_own = "whoever sends requests to a live server has a patience of its own"
    reasons = {
        "fleet.events": (bool(fleet.events), "instances of a live server do not fail and are not drained"),
        "autoscale.policy": (plan.config.autoscale.is_on, "instances of a live server neither come nor go"),
        "clients.timeout_s": (clients.timeout_s is not None, has_own),
        "clients.retries": (clients.retries > 0, has_own),
        "routing.max_in_flight": (most is not None, "the router of a live server holds no requests"),
    }
    for key, (is_given, why) in reasons.items():
        if is_given:
            raise ConfigError(f"{key}: {why}; leave it out")


def _chains_of(request: Request) -> set[int]:
    return {request.output_chain, *(chain for chain, _ in request.pieces)}


def _instance_state(engine: Engine, has_tiers: bool) -> InstanceState:
    scheduler, pool = engine.scheduler, engine.pool
    query_tokens, hit_tokens, external_tokens = scheduler.query_tokens, scheduler.hit_tokens, scheduler.loaded_tokens
    if engine.role == "decode":
        query_tokens, hit_tokens = engine.reserved_tokens, engine.present_tokens
        external_tokens = query_tokens - hit_tokens
    own_tokens = hit_tokens if engine.role == "decode" else hit_tokens - external_tokens
    is_asked = engine.role == "decode" or has_tiers
    return InstanceState(
        role=engine.role,
        number=engine.instance,
        running=scheduler.num_running,
        waiting=scheduler.num_queued,
        total_blocks=pool.num_blocks,
        free_blocks=pool.num_free,
        preemptions=scheduler.preemptions,
        prefix_query_tokens=query_tokens,
        prefix_hit_tokens=own_tokens,
        external_query_tokens=query_tokens - own_tokens if is_asked else 0,
        external_hit_tokens=external_tokens,
    )
