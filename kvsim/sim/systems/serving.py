"""What both systems share: build, let the workload arrive, run, and hand over the result."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Place, Plan
from kvsim.sim.clock import Clock
from kvsim.sim.engine.engine import Engine, Role
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.log.conservation import RequestCounts
from kvsim.sim.log.requests import RequestLog
from kvsim.sim.log.steps import StepLog
from kvsim.sim.routing import Loads, PrefixIndex, StaleIndex, prefill_router
from kvsim.sim.routing.prefill import PrefillRouter
from kvsim.sim.systems.arrivals import Arrivals
from kvsim.sim.systems.interrupt import on_interrupt
from kvsim.sim.systems.size import check_size
from kvsim.sim.systems.warm import COMMON_SHARE, common_heads, warm
from kvsim.sim.tiers.lookup import Tiers, tiers_of
from kvsim.sim.tiers.write_back import WriteBack
from kvsim.steptime.curves.base import StepTime
from kvsim.units import MILLI
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

Progress = Callable[[int, float], None]
"""Told now and then how many requests are done, and the simulated time in seconds."""

_PROGRESS_EVERY = 1000
_WAITING_WEIGHT = 4
"""Of a waiting request against a running one, in vLLM's data-parallel balancer."""
_MARKS = 20
"""Equal parts of the arrivals: measured windows begin and end at their edges."""
_TYPICAL_TOKENS = 2048
"""Of a prompt by which routers are told what computing a token takes."""


class Mark:
    """What had been held until some time."""

    __slots__ = ("held_block_s", "time_s")

    def __init__(self, time_s: float, held_block_s: dict[str, float]) -> None:
        self.time_s = time_s
        self.held_block_s = held_block_s
        """By role: blocks that requests held, integrated over time."""


def marked_arrivals(num_requests: int, warmup_requests: int) -> set[int]:
    """Numbers of the arrivals, from 0 on, that a measured window may begin or end at."""
    last = max(num_requests - 1, 0)
    return {0, min(warmup_requests, last), *(last * part // _MARKS for part in range(1, _MARKS + 1))}


class ServingSystem:
    """The base of ``unified`` and ``pd``: arrivals, the population, completions.

    A subclass sets ``front``, the engines that compute prompts, and ``router``, and is their port.
    """

    name: str
    prefill_engines: list[Engine]
    prefill_log: StepLog
    router: PrefillRouter
    places: list[Place]
    """Of ``front``."""

    def __init__(self, plan: Plan, workload: Workload, seed: int, progress: Progress | None = None) -> None:
        check_size(plan, workload)
        self.plan, self.workload = plan, workload
        self.clock = Clock()
        self.requests = RequestLog()
        self.counts = RequestCounts()
        self.generators = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)]
        staleness_s = plan.config.routing.index_staleness_ms * MILLI
        self.index = StaleIndex(staleness_s, lambda: self.clock.now) if staleness_s else PrefixIndex()
        self._arrivals = Arrivals(self.clock, workload, self._arrive)
        self._is_closed = workload.is_closed
        self.pinning = 0
        """Requests whose KV still leaves the instance that computed it."""
        self.incomplete = False
        self.sim_cpu_s = 0.0
        self.notes: list[str] = []
        self._progress = progress
        self._block_size = plan.spec.block_size_tokens
        self._group_size = plan.config.engine.data_parallel_size
        self.tiers: Tiers | None = None
        """Below the caches of ``front``."""
        self._writes_back: WriteBack | None = None
        self._restart_after = plan.config.cache.restart_after_requests or 0
        self.warmup_requests = 0
        """The first so many requests are served, and their inter-token latencies not counted."""
        self.failed_arrival_s: list[float] = []
        """When those came that fit nowhere."""
        self.marks: list[Mark] = []
        """At some arrivals, the first and the last among them, and at the end of the run."""
        self._mark_at: set[int] = set()
        """Numbers of these arrivals."""

    def run(self, warmup_requests: int = 0) -> None:
        """Serve the whole workload; an interrupt ends the run early and marks it incomplete."""
        self.warmup_requests = warmup_requests
        self._mark_at = marked_arrivals(len(self.workload), warmup_requests)
        self._warm_caches()
        self.clock.process(self._arrivals.story())
        cpu_s = time.process_time()
        collecting = gc.isenabled()
        gc.disable()
        try:
            with on_interrupt(self._interrupt):
                self.clock.run_to_stop()
        finally:
            if collecting:
                gc.enable()
            self.sim_cpu_s = time.process_time() - cpu_s
        self.marks.append(self._mark())
        if self.counts.arrived < self._restart_after:
            came = f"{self.counts.arrived:,} came, and nothing was lost"
            self.notes.append(f"cache.restart_after_requests = {self._restart_after:,}: {came}")

    def log_steps(self, log: StepLog) -> None:
        """Let ``log`` collect the steps of ``front`` from now on."""
        self.prefill_log = log
        for engine in self.prefill_engines:
            engine.log_to(log)

    def _mark(self) -> Mark:
        held_block_s: dict[str, float] = {}
        for engine in self._engines():
            held_block_s[engine.role] = held_block_s.get(engine.role, 0.0) + engine.held_so_far_block_s()
        return Mark(self.clock.now, held_block_s)

    def _engines(self) -> list[Engine]:
        """All of them."""
        return self.prefill_engines

    def _warm_caches(self) -> None:
        """Synthetic traffic begins in the midst of things: every instance has met its common prompts before."""
        if not self.plan.config.load.warm_caches or self.workload.info.format != "synthetic":
            return
        heads = common_heads(self.workload, self._block_size)
        for engine in self._engines():
            cached = warm(engine.pool, heads)
            if engine.role != "decode":
                for head in cached:
                    self.index.computed(engine.instance, head, head[0][2])
        if heads:
            share = f"{COMMON_SHARE:.1%}"
            self.notes.append(f"caches start warm: {len(heads)} prompt heads that at least {share} of requests share")

    def _interrupt(self) -> None:
        self.incomplete = True
        self.clock.stop()

    def _build_tiers(self, side: Instance, places: list[Place]) -> None:
        """Put the plan's tiers below the caches of ``front``: instances of ``side`` that stand at ``places``."""
        self.places = places
        names = self.plan.tiers
        if not names:
            return
        told = self._now_cached
        self.tiers = tiers_of(self.clock, self.plan, side, self.workload, places, self.generators[3], told)
        self._writes_back = self.tiers.writes_back
        self.tiers.stand_behind(self.prefill_engines, waits_for_backup=not self.plan.config.cache.async_backup)

    def _now_cached(self, instance: int, sequence: Sequence, blocks: int) -> None:
        """An engine's cache has so many blocks of a sequence."""
        if sequence.path[0][0] >= 0:
            self.index.computed(instance, sequence.path, blocks)

    def _submit(self, engine: Engine, sequence: Sequence) -> None:
        """Queue a request on its first engine, what tiers have of its prompt first loaded there."""
        if self.tiers is None:
            engine.submit(sequence)
        else:
            self.tiers.arrive(engine, sequence)

    def _restart(self) -> None:
        """Caches and memories are lost; requests go on."""
        if self._writes_back is not None:
            self._writes_back.is_off = True
        for engine in self._engines():
            engine.forget()
        if self._writes_back is not None:
            self._writes_back.is_off = False
        if self.tiers is not None:
            self.tiers.hierarchy.restart()
        self.notes.append(f"memory was lost after {self.counts.arrived:,} requests, what stood on drives was not")

    def _arrive(self, request: Request) -> None:
        if self.counts.arrived in self._mark_at:
            self.marks.append(self._mark())
        self.counts.arrive(self.clock.now)
        if self.counts.arrived == self._restart_after:
            self._restart()
        settings = self.prefill_engines[0].settings
        output_tokens = min(request.output_tokens, settings.max_model_len - request.prompt_tokens)
        if output_tokens < 1 or not self._can_hold(request.prompt_tokens, output_tokens):
            self.counts.fail(self.clock.now)
            self.failed_arrival_s.append(self.clock.now)
            self._gone(request)
            return
        state = RequestState(request, block_path(request, self._block_size), output_tokens)
        if request.request_id < self.warmup_requests:
            state.measured = 0
        if self.tiers is not None:
            self.tiers.hierarchy.settle()
        instance = self.router.choose(state.path, request.prompt_tokens, request.session_id)
        state.prefill_instance = instance if self._group_size == 1 else self._balanced(instance)
        self._admit(state)

    def _balanced(self, instance: int) -> int:
        """Of the data-parallel engines that ``instance`` is one of, the one vLLM's front end sends a request to."""
        first = instance - instance % self._group_size
        best, least = first, -1
        for place in range(first, min(first + self._group_size, len(self.prefill_engines))):
            scheduler = self.prefill_engines[place].scheduler
            score = _WAITING_WEIGHT * (len(scheduler.waiting) + scheduler.loading) + len(scheduler.running)
            if least < 0 or score < least:
                best, least = place, score
        return best

    def _can_hold(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether a request fits the blocks of the instances it visits."""
        return fits(prompt_tokens + output_tokens, self.prefill_engines[0].settings)

    def _admit(self, state: RequestState) -> None:
        """Send a routed request to its first engine."""
        raise NotImplementedError

    def complete(self, state: RequestState) -> None:
        """The last token is out."""
        now = self.clock.now
        request = state.request
        hit_tokens, loaded_tokens = state.hit_tokens, 0
        if self.tiers is not None:
            hit_tokens, loaded_tokens = self.tiers.served(state)
        self.requests.add(
            (
                request.request_id,
                request.arrival_s,
                state.first_token_s,
                now,
                request.prompt_tokens,
                state.output_tokens,
                hit_tokens,
                loaded_tokens,
                state.computed_tokens,
                state.recomputed_tokens,
                state.preemptions,
                state.prefill_instance,
                state.decode_instance,
                state.transferred_bytes,
                state.queue_s,
                state.interference_s,
                state.preemption_s,
                state.tier_load_s,
                state.prefill_s,
                state.transfer_s,
                state.decode_wait_s,
                state.first_decode_s,
            )
        )
        counts = self.counts
        counts.complete(now)
        if self._progress is not None and counts.completed % _PROGRESS_EVERY == 0:
            self._progress(counts.completed, now)
        self._gone(request)

    def _gone(self, request: Request) -> None:
        """A request is over; the run too, when it was the last."""
        if self._is_closed:
            self._arrivals.ended(request)
        self._stop_if_over()

    def _stop_if_over(self) -> None:
        counts = self.counts
        if self._arrivals.all_sent and counts.completed + counts.failed == counts.arrived and not self.pinning:
            self.clock.stop()

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """Port: see ``kvsim.sim.engine.engine.Port``."""
        raise NotImplementedError

    def computing(self, engine: Engine, sequence: Sequence, first: int, end: int, end_s: float) -> None:
        """Port: nothing to do unless something leaves while it is computed."""

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """Port: nothing to do unless something was promised elsewhere."""

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """Port: see ``kvsim.sim.engine.engine.Port``."""
        raise NotImplementedError

    def _prefill_engine(self, instance: int, role: Role, settings: EngineSettings, step_time: StepTime) -> Engine:
        """An engine that computes prompts: the prefix index knows what it caches.

        What it evicts inside a leap is told when somebody asks: too late where tiers are fed with it, and where the
        age of the news counts.
        """
        config = self.plan.config
        if config.routing.index_staleness_ms or (self.plan.tiers and config.cache.write_policy == "write_back"):
            settings = replace(settings, stepwise=True)
        return Engine(
            self.clock,
            instance,
            role,
            settings,
            step_time,
            self,
            self.prefill_log,
            on_evict=partial(self._evicted, instance),
        )

    def _evicted(self, instance: int, chain: int, cached: int) -> None:
        """Only ``cached`` blocks of a chain are left in an engine's cache, or so many went that were one request's."""
        if chain >= 0:
            self.index.evicted(instance, chain, cached)
        if self._writes_back is not None:
            self._writes_back.evicted(instance, chain, cached)

    def _make_router(
        self, loads: Loads, backlog_tokens: list[float], slack: float, seats: float = math.inf
    ) -> PrefillRouter:
        """To be made once the tiers are. ``seats``: the load at which an instance has none left."""
        routing = self.plan.config.routing
        below = None
        if self.tiers is not None and routing.sees_tiers:
            alone_s = self.prefill_engines[0].step_time.prefill_alone_s(_TYPICAL_TOKENS, 0)
            below = self.tiers.hierarchy.below(alone_s / _TYPICAL_TOKENS)
        return prefill_router(
            routing.prefill,
            loads=loads,
            backlog_tokens=backlog_tokens,
            index=self.index,
            block_size=self._block_size,
            guard=routing.load_guard,
            slack=slack,
            num_candidates=routing.candidates,
            generator=self.generators[0],
            below=below,
            seats=seats,
        )


def fits(tokens: int, settings: EngineSettings) -> bool:
    """Whether an instance's blocks hold a sequence of so many tokens."""
    return -(-tokens // settings.block_size) <= settings.num_blocks
