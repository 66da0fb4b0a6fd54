"""The base of both systems: build, let requests arrive, run, and count."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from functools import partial

import numpy as np

from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Place, Plan
from kvsim.plan.pools import TYPICAL_TOKENS
from kvsim.record.result import Check, TransferUse
from kvsim.sim.clock import DECODE_BOUNDARY, PREFILL_BOUNDARY, Clock
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.engine_kinds import engine_kind
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.lockstep import Lockstep
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.fleet.hooks import FleetHooks
from kvsim.sim.log.conservation import RequestCounts
from kvsim.sim.log.detail import DetailLog
from kvsim.sim.log.requests import RequestLog
from kvsim.sim.log.steps import StepLog
from kvsim.sim.network.network import Network
from kvsim.sim.routing import InFlight, Loads, PrefixIndex, StaleIndex, in_flight_of, prefill_router
from kvsim.sim.routing.prefill import PrefillRouter
from kvsim.sim.systems.arrivals import Arrivals, end_notes
from kvsim.sim.systems.interrupt import on_interrupt
from kvsim.sim.systems.marks import Mark, marked_arrivals
from kvsim.sim.systems.population import Population, Progress
from kvsim.sim.systems.run_part import WHOLE, RunPart
from kvsim.sim.systems.size import check_size
from kvsim.sim.systems.warm import warm_caches
from kvsim.sim.systems.watcher import Watcher
from kvsim.sim.tiers.lookup import Tiers
from kvsim.sim.tiers.tiers_of import tiers_of
from kvsim.sim.tiers.write_back import WriteBack
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.lockstep import steps_together, times_of_engine
from kvsim.units import MILLI
from kvsim.workload.workload import Workload


class ServingSystem(Population):
    """The base of ``unified`` and ``pd``: arrivals, the population, completions.

    A subclass sets ``prefill_engines``, the engines that compute prompts, and ``router``, and is what engines tell
    (``EngineListener``).
    """

    name: str
    prefill_places: list[Place]
    """Where the instances that compute prompts stand, by number."""

    def __init__(
        self,
        plan: Plan,
        workload: Workload | None,
        seed: int,
        progress: Progress | None = None,
        *,
        watcher: Watcher | None = None,
        keeps_detail: bool = False,
        refreshes_index: bool = False,
    ) -> None:
        """``workload``: what will arrive; ``None``: nobody knows, requests are told by ``arrive`` as time runs, for
        ever. ``watcher``: told of requests, of which nothing is kept then; the engines of ``plan`` must be stepwise.
        ``keeps_detail``: steps, levels and movements of KV, see ``kvsim.record.detail``. ``refreshes_index``: the
        engines that compute prompts evict inside leaps, and say so when the prefix index is asked.
        """
        if workload is not None:
            check_size(plan, workload)
        self.plan, self.workload, self.watcher = plan, workload, watcher
        self.clock = Clock()
        self.requests = RequestLog()
        self.counts = RequestCounts()
        self.generators = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(7)]
        self.prefill_log = StepLog()
        self.pool_logs: list[StepLog] = []  # of each of the plan's pools; prefill_log has them together
        self.detail = DetailLog() if keeps_detail else None
        staleness_s = plan.config.routing.index_staleness_ms * MILLI
        refresh = self._settle_evictions if refreshes_index else None
        self.index = StaleIndex(staleness_s, lambda: self.clock.now, refresh) if staleness_s else PrefixIndex(refresh)
        self._arrivals = None if workload is None else Arrivals(self.clock, workload, self.arrive)
        self._is_closed = workload is not None and workload.is_closed
        self.sequences: dict[RequestState, Sequence] = {}
        """What requests that are in the system are to the first engine that they go to, or to the one that answers."""
        self.pinning = 0
        """Requests whose KV still leaves the instance that computed it."""
        self.gave_up = 0
        """Requests whose clients have given them up, or that nobody is left to serve."""
        self.withdrawn = 0
        """Times that a request was taken off an engine before it had its answer."""
        self.fleet: FleetHooks | None = None
        """Who looks after instances that come and go and requests that are sent again, where any do."""
        self.after_failed = 0
        """At the end: requests that were sent after one that they waited for had failed."""
        self.incomplete = False
        self.sim_cpu_s = 0.0
        self.notes: list[str] = []
        self._progress = progress
        self._block_size = plan.spec.block_size_tokens
        self._group_size = plan.config.engine.data_parallel_size
        self._prefill_groups: list[Lockstep] = []
        self.tiers: Tiers | None = None
        """Below the caches of the engines that compute prompts."""
        self._writes_back: WriteBack | None = None
        self.in_flight: InFlight | None = None
        """What a router keeps of the requests it has sent, where it does."""
        self._restart_after = plan.config.cache.restart_after_requests or 0
        self.warmup_requests = 0
        """The first so many requests are served, and their inter-token latencies not counted."""
        self.failed_arrival_s: list[float] = []
        """Arrivals of requests that fit nowhere, or were given up."""
        self.marks: list[Mark] = []
        """At some arrivals, the first and the last among them, and at the end of the run."""
        self._mark_at: set[int] = set()
        """Numbers of the arrivals that are marked."""

    def run(self, warmup_requests: int = 0, part: RunPart = WHOLE) -> None:
        """Serve the whole workload; an interrupt ends the run early and marks it incomplete."""
        assert self.workload is not None and self._arrivals is not None, "nobody knows what will arrive"
        self.warmup_requests = warmup_requests
        self._mark_at = set() if part.marks_s else marked_arrivals(len(self.workload), warmup_requests)
        for time_s in part.marks_s or ():
            self.clock.schedule(time_s, callback=lambda _: self.marks.append(self._mark()))
        if self.plan.config.load.warm_caches:
            self.notes += warm_caches(self.workload, self.engines(), self.index, part.heads)
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
        if self.detail is not None:
            for engine in self.engines():
                engine.tell_held()
        self.after_failed = self._arrivals.after_failed
        self.notes += end_notes(self.after_failed, self.counts.arrived, self._restart_after)

    def engines_by_role(self) -> dict[Role, list[Engine]]:
        """All engines, those of each role by their numbers."""
        raise NotImplementedError

    def logs_by_role(self) -> dict[Role, StepLog]:
        """The steps of each role's engines."""
        raise NotImplementedError

    def gpus_of(self, role: Role, instance: int = 0) -> int:
        """GPUs of one engine of a role: of the first one, where none is named."""
        prefill, decode = self.plan.degrees
        return {"prefill": prefill, "decode": decode, "colocated": self.plan.spec.num_gpus}[role]

    def used_share(self, role: Role, instance: int) -> float:
        """What an engine has to do as a share of what it does at a time, above 1 where some of it waits: requests and
        seats, of one that only computes prompts tokens and those of a step.
        """
        raise NotImplementedError

    def held_share(self, role: Role, held: list[RequestState]) -> float:
        """Likewise of requests that wait at the router for an engine of a role."""
        raise NotImplementedError

    def waits_for(self, role: Role) -> int:
        """Requests that have been served by engines of another role, and wait for one of this."""
        return 0

    def node_of(self, engine: Engine) -> int:
        """The number of one of its engines in the network between instances, where there is one."""
        return engine.instance

    def network_between(self) -> Network | None:
        """The network that KV moves over between instances, where it does."""
        return None

    def place_of(self, engine: Engine) -> Place:
        """Where one of its engines stands."""
        return self.prefill_places[engine.instance]

    def transfer_use(self, end_s: float) -> TransferUse | None:
        """What moved between instances up to ``end_s``; ``None`` where no KV does."""
        return None

    def byte_checks(self) -> list[Check]:
        """Laws of the bytes that moved between instances; those of a drained system where nobody is in flight."""
        return []

    def engines(self) -> list[Engine]:
        """All engines, role by role."""
        return [engine for engines in self.engines_by_role().values() for engine in engines]

    def _count_arrival(self) -> None:
        if self.counts.arrived in self._mark_at:
            self.marks.append(self._mark())
        self.counts.arrive(self.clock.now)
        if self.counts.arrived == self._restart_after:
            self._restart()

    def _mark(self) -> Mark:
        held_block_s: dict[str, float] = {}
        for engine in self.engines():
            held_block_s[engine.role] = held_block_s.get(engine.role, 0.0) + engine.held_so_far_block_s()
        return Mark(self.clock.now, held_block_s)

    def _settle_evictions(self, instance: int) -> None:
        self.prefill_engines[instance].settle_begun()

    def _interrupt(self) -> None:
        self.incomplete = True
        self.clock.stop()

    def _build_tiers(self, side: Instance, places: list[Place]) -> None:
        """Make the plan's tiers, which the engines that compute prompts ask: instances of ``side`` at ``places``.

        To be called before those engines are made.
        """
        self.prefill_places = places
        if self.plan.tiers:
            told, drawn = self._now_cached, self.generators[3]
            self.tiers = tiers_of(self.clock, self.plan, side, self.workload, places, drawn, told, self.detail)
            self._writes_back = self.tiers.writes_back

    def _now_cached(self, instance: int, sequence: Sequence, blocks: int) -> None:
        """Publish that an engine's cache has the first ``blocks`` blocks of a sequence."""
        if sequence.path[0][0] >= 0:
            self.index.computed(instance, sequence.path, blocks)

    def _submit(self, engine: Engine, sequence: Sequence) -> None:
        """Queue a request on its first engine, what tiers have of its prompt first loaded there."""
        if self.tiers is None:
            engine.submit(sequence)
        else:
            self.tiers.arrive(engine, sequence)

    def _restart(self) -> None:
        """What is cached in the memory of GPUs, hosts and pools is lost; requests go on."""
        self.lose_caches(self.engines())
        if self.tiers is not None:
            self.tiers.hierarchy.restart()
        self.notes.append(f"memory was lost after {self.counts.arrived:,} requests, what stood on drives was not")

    def lose_caches(self, engines: list[Engine]) -> None:
        """What engines have cached and nobody uses is gone, and written nowhere."""
        if self._writes_back is not None:
            self._writes_back.is_off = True
        for engine in engines:
            engine.forget()
        if self._writes_back is not None:
            self._writes_back.is_off = False

    def tokens(self, engine: Engine, sequence: Sequence, count: int) -> None:
        """Tell of tokens that are out, unless nobody waits for them any more."""
        state = sequence.state
        if self.watcher is not None and state in self.sequences:
            self.watcher.tokens(state, count, state.told_tokens == 0)
            state.told_tokens += count

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """See ``kvsim.sim.engine.listener.EngineListener``."""
        raise NotImplementedError

    def computing(self, engine: Engine, sequence: Sequence, first: int, end: int, end_s: float) -> None:
        """Nothing to do unless something leaves while it is computed."""

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """Nothing to do unless something was promised elsewhere."""

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """See ``kvsim.sim.engine.listener.EngineListener``."""
        raise NotImplementedError

    def left(self, engine: Engine, sequence: Sequence) -> None:
        """Nothing to do unless somebody waits elsewhere for its blocks."""

    def _prefill_engine(
        self,
        instance: int,
        role: Role,
        settings: EngineSettings,
        step_time: StepTime,
        *,
        announces_chunks: bool = False,
        forwards: bool = False,
    ) -> Engine:
        """An engine that computes prompts: the prefix index knows what it caches.

        What it evicts inside a leap is told when somebody asks: too late where tiers are fed with it, and where the
        age of the news counts. ``forwards``: see ``EngineDetail``.
        """
        config, tiers = self.plan.config, self.tiers
        if config.routing.index_staleness_ms or (self.plan.tiers and config.cache.write_policy == "write_back"):
            settings = replace(settings, stepwise=True)
        group = self._group_of(self._prefill_groups, instance, role, step_time)
        engine = engine_kind(settings)(
            self.clock,
            instance,
            role,
            settings if group is None else replace(settings, stepwise=True),
            times_of_engine(step_time),
            self,
            self.prefill_log,
            on_evict=partial(self._evicted, instance),
            look_up=None if tiers is None else tiers.asked_by_scheduler(),
            connector=None if tiers is None else tiers.connector_of(instance),
            backup_s=0.0 if tiers is None else tiers.backup_s(instance),
            announces_chunks=announces_chunks,
            tells_tokens=self.watcher is not None,
            detail=None if self.detail is None else self.detail.engine(instance, forwards=forwards),
            timer=None if group is None else group.timer,
        )
        if group is not None:
            group.engines.append(engine)
        return engine

    def _group_of(self, groups: list[Lockstep], number: int, role: Role, step_time: StepTime) -> Lockstep | None:
        """The data-parallel group, the last of ``groups``, that the engine of that number is in, asked of each in their
        order; ``None``: it steps by itself."""
        together = steps_together(step_time)
        if together is not None and number % self._group_size == 0:
            priority = DECODE_BOUNDARY if role == "decode" else PREFILL_BOUNDARY
            groups.append(Lockstep(self.clock, priority, number, together, self.plan.config.engine.dp_sync_interval))
        return None if together is None else groups[-1]

    def _evicted(self, instance: int, chain: int, cached: int) -> None:
        """Publish that an engine's cache has only ``cached`` blocks of a chain left; with a negative chain, that so
        many blocks went which were one request's.
        """
        if chain >= 0:
            self.index.evicted(instance, chain, cached)
        if self._writes_back is not None:
            self._writes_back.evicted(instance, chain, cached)

    def _make_router(
        self, loads: Loads, backlog_tokens: list[float], slack: float, seats: float = math.inf
    ) -> PrefillRouter:
        """The router of prompts, which sees the tiers. ``seats``: the load at which an instance has none left."""
        routing = self.plan.config.routing
        tier_view = None
        if self.tiers is not None and routing.sees_tiers:
            alone_s = self.prefill_engines[0].step_time.prefill_alone_s(TYPICAL_TOKENS, 0)
            tier_view = self.tiers.hierarchy.tier_view(alone_s / TYPICAL_TOKENS)
        self.in_flight = in_flight_of(routing.prefill, len(self.prefill_engines))
        return prefill_router(
            routing,
            loads=loads,
            backlog_tokens=backlog_tokens,
            index=self.index,
            block_size=self._block_size,
            slack=slack,
            generator=self.generators[0],
            tier_view=tier_view,
            seats=seats,
            in_flight=self.in_flight,
            room_tokens=self.prefill_engines[0].settings.room_tokens,
        )
