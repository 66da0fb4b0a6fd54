"""Unified serving: every instance computes prompts and generates answers. The baseline."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.plan.pools import slowness
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.pool_steps import PoolStepLog
from kvsim.sim.log.steps import StepLog
from kvsim.sim.routing import Loads, PooledLoads, adapter_router, in_flight_of, prefill_router
from kvsim.sim.routing.pooled import HoldingRouter
from kvsim.sim.routing.prefill import PrefillRouter
from kvsim.sim.systems.marks import Mark
from kvsim.sim.systems.population import Progress
from kvsim.sim.systems.serving import ServingSystem
from kvsim.sim.systems.watcher import Watcher
from kvsim.workload.workload import Workload


class UnifiedSystem(ServingSystem):
    """Colocated instances behind one router, which balances by requests in flight."""

    name = "unified"
    last_role: Role = "colocated"

    def __init__(
        self,
        plan: Plan,
        workload: Workload | None,
        seed: int,
        progress: Progress | None = None,
        *,
        watcher: Watcher | None = None,
        keeps_detail: bool = False,
    ) -> None:
        super().__init__(
            plan, workload, seed, progress, watcher=watcher, keeps_detail=keeps_detail, refreshes_index=True
        )
        self._build_tiers(plan.colocated, plan.unified_places())
        self.prefill_engines = []
        if not plan.pools:
            self._add_engines(plan.colocated, plan.num_instances)
        whole = self.prefill_log
        for pool in plan.pools:
            self.prefill_log = PoolStepLog(whole)
            self.pool_logs.append(self.prefill_log)
            self._add_engines(pool.instance, pool.instances)
        self.prefill_log = whole
        self.backlog_tokens = [0.0] * plan.num_instances
        if plan.pools:
            self.loads, self.router = self._route_by_speed(plan)
        else:
            self.loads = Loads(plan.num_instances)
            seats = float(plan.colocated_settings.max_num_seqs)
            router = self._make_router(self.loads, self.backlog_tokens, slack=1.0, seats=seats)
            slots = [engine.adapter_slots for engine in self.prefill_engines]
            self.router = adapter_router(router, plan.config.routing, self.loads, slots, 1.0)

    def _add_engines(self, instance: Instance, number: int) -> None:
        for _ in range(number):
            place = len(self.prefill_engines)
            self.prefill_engines.append(self._prefill_engine(place, "colocated", instance.settings, instance.step_time))

    def _route_by_speed(self, plan: Plan) -> tuple[Loads, PrefillRouter]:
        """The router of prompts over instances of several kinds, and the loads that it sees."""
        factors, routing = slowness(plan.pools), plan.config.routing
        settings = [engine.settings for engine in self.prefill_engines]
        loads = PooledLoads(factors, [self._filled_by(own, max(factors) > 1) for own in settings])
        self.in_flight = in_flight_of(routing.prefill, len(settings))
        router = prefill_router(
            routing,
            loads=loads,
            backlog_tokens=self.backlog_tokens,
            index=self.index,
            block_size=self._block_size,
            slack=1.0,
            generator=self.generators[0],
            in_flight=self.in_flight,
            room_tokens=[own.room_tokens for own in settings],
            slowness=factors,
        )
        slots = [engine.adapter_slots for engine in self.prefill_engines]
        return loads, HoldingRouter(adapter_router(router, routing, loads, slots, 1.0), loads, settings)

    def _filled_by(self, settings: EngineSettings, by_tokens: bool) -> float:
        """Requests that fill an instance: its seats, or ``by_tokens`` as many of the mean length as its KV holds where
        these are fewer and the requests are known."""
        workload = self.workload
        if workload is None or not by_tokens:
            return float(settings.max_num_seqs)
        mean_tokens = float(workload.prompt_tokens.mean() + workload.output_tokens.mean())
        return min(float(settings.max_num_seqs), max(1.0, settings.room_tokens / mean_tokens))

    def gpus_of(self, role: Role, instance: int = 0) -> int:
        first = 0
        for pool in self.plan.pools:
            if instance < first + pool.instances:
                return pool.instance.spec.num_gpus
            first += pool.instances
        return super().gpus_of(role)

    def engines_by_role(self) -> dict[Role, list[Engine]]:
        return {"colocated": self.prefill_engines}

    def logs_by_role(self) -> dict[Role, StepLog]:
        for log in self.pool_logs:
            log.flush()
        return {"colocated": self.prefill_log}

    def _mark(self) -> Mark:
        """What instances of each kind had held, too: by the kind's number."""
        mark = super()._mark()
        first = 0
        for number, pool in enumerate(self.plan.pools):
            engines = self.prefill_engines[first : first + pool.instances]
            mark.held_block_s[str(number)] = sum(engine.held_so_far_block_s() for engine in engines)
            first += pool.instances
        return mark

    def _can_hold(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether instances of some kind hold the request; it is told to the router, which is asked next."""
        router = self.router
        if not isinstance(router, HoldingRouter):
            return super()._can_hold(prompt_tokens, output_tokens)
        return router.can_hold(prompt_tokens + output_tokens)

    def _admit(self, state: RequestState) -> None:
        instance = state.decode_instance = state.prefill_instance
        prompt_tokens = state.request.prompt_tokens
        self.loads.add(instance, 1)
        self.backlog_tokens[instance] += prompt_tokens
        sequence = self.sequences[state] = Sequence(state, prompt_tokens, state.output_tokens)
        self._submit(self.prefill_engines[instance], sequence)

    def _withdraw(self, state: RequestState) -> None:
        instance, sequence = state.prefill_instance, self.sequences.pop(state)
        engine = self.prefill_engines[instance]
        if self.tiers is not None:
            self.tiers.aborted(engine, sequence)
        engine.abort(sequence)
        self.loads.add(instance, -1)
        self.leaves_prefill(state)
        if state.first_token_s < 0:
            self.backlog_tokens[instance] -= state.request.prompt_tokens

    def count_stranded(self, state: RequestState, role: Role, amount: int) -> None:
        self.loads.add(state.prefill_instance, amount)
        self.backlog_tokens[state.prefill_instance] += amount * state.request.prompt_tokens

    def is_empty(self, role: Role, numbers: set[int]) -> bool:
        return not any(self.loads.held(number) for number in numbers)

    def used_share(self, role: Role, instance: int) -> float:
        return self.loads.load(instance) / self.plan.colocated_settings.max_num_seqs

    def held_share(self, role: Role, held: list[RequestState]) -> float:
        return len(held) / self.plan.colocated_settings.max_num_seqs

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """Publish what is computed; once all is, the prompt is no backlog any more."""
        state = sequence.state
        if state.first_token_s >= 0 or sequence.aborted:
            return
        if state.path[0][0] >= 0:
            self.index.computed(engine.instance, state.path, sequence.ready // self._block_size)
        if sequence.ready == state.request.prompt_tokens:
            self.backlog_tokens[engine.instance] -= state.request.prompt_tokens
            if self.in_flight is not None:
                self.in_flight.computed(state.request, engine.instance)
        if self.tiers is not None:
            self.tiers.prefilled(engine, sequence)

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """The answer is complete; nobody's, where its client has gone."""
        state = sequence.state
        if self.sequences.pop(state, None) is None:
            return
        if self.tiers is not None:
            self.tiers.computed(engine, sequence, sequence.computed)
        if state.request.output_chain >= 0:
            self.index.computed(engine.instance, state.path, sequence.computed // self._block_size)
        self.loads.add(engine.instance, -1)
        self.leaves_prefill(state)
        self.complete(state)
