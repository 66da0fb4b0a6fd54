"""Unified serving: every instance computes prompts and generates answers. The baseline."""

from __future__ import annotations

from kvsim.node.engine import Engine
from kvsim.node.sequence import Journey, Sequence
from kvsim.policy.routing import Loads
from kvsim.record.steps import StepLog
from kvsim.system.plan import Plan
from kvsim.system.serving import Progress, ServingSystem
from kvsim.workload.workload import Workload


class UnifiedSystem(ServingSystem):
    """Colocated instances behind one router, which balances by requests in flight."""

    name = "unified"

    def __init__(self, plan: Plan, workload: Workload, seed: int, progress: Progress | None = None) -> None:
        super().__init__(plan, workload, seed, progress)
        self.front_log = StepLog()
        self.front = [
            self._front_engine(instance, "colocated", plan.colocated_settings, plan.step_time)
            for instance in range(plan.num_instances)
        ]
        self.loads = Loads(plan.num_instances)
        self.backlog_tokens = [0.0] * plan.num_instances
        self.index.refresh = self._settle
        self._build_tiers(plan.colocated, plan.unified_places())
        seats = float(plan.colocated_settings.max_num_seqs)
        self.router = self._make_router(self.loads, self.backlog_tokens, slack=1.0, seats=seats)

    def _settle(self, instance: int) -> None:
        self.front[instance].settle_begun()

    def _admit(self, journey: Journey) -> None:
        instance = journey.decode_instance = journey.prefill_instance
        prompt_tokens = journey.request.prompt_tokens
        self.loads.add(instance, 1)
        self.backlog_tokens[instance] += prompt_tokens
        self._submit(self.front[instance], Sequence(journey, prompt_tokens, journey.output_tokens))

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """Port: publish what is computed; once all is, the prompt is no backlog any more."""
        journey = sequence.journey
        if journey.first_token_s >= 0:
            return
        if journey.path[0][0] >= 0:
            self.index.computed(engine.instance, journey.path, sequence.ready // self._block_size)
        if sequence.ready == journey.request.prompt_tokens:
            self.backlog_tokens[engine.instance] -= journey.request.prompt_tokens
            if self.tiers is not None:
                self.tiers.computed(engine, sequence, sequence.ready)

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """Port: the answer is complete."""
        journey = sequence.journey
        if self.tiers is not None:
            self.tiers.computed(engine, sequence, sequence.computed)
        if journey.request.output_chain >= 0:
            self.index.computed(engine.instance, journey.path, sequence.computed // self._block_size)
        self.loads.add(engine.instance, -1)
        self.complete(journey)
