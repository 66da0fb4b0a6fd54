"""Unified serving: every instance computes prompts and generates answers. The baseline."""

from __future__ import annotations

from kvsim.plan.plan import Plan
from kvsim.sim.engine.engine import Engine, Role
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.log.steps import StepLog
from kvsim.sim.routing import Loads
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
        self.prefill_engines = [
            self._prefill_engine(instance, "colocated", plan.colocated_settings, plan.step_time)
            for instance in range(plan.num_instances)
        ]
        self.loads = Loads(plan.num_instances)
        self.backlog_tokens = [0.0] * plan.num_instances
        seats = float(plan.colocated_settings.max_num_seqs)
        self.router = self._make_router(self.loads, self.backlog_tokens, slack=1.0, seats=seats)

    def engines_by_role(self) -> dict[Role, list[Engine]]:
        return {"colocated": self.prefill_engines}

    def logs_by_role(self) -> dict[Role, StepLog]:
        return {"colocated": self.prefill_log}

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
        return not any(self.loads.load(number) for number in numbers)

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
