"""A prefix cache alone, which requests pass one after the other: hits of eviction policies, and what is left to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.plan.plan import Plan
from kvsim.policy.eviction import make_eviction
from kvsim.policy.eviction.replay import found_by_prompt
from kvsim.study.context import StudyContext
from kvsim.study.replication import Figures, Goal, Replicated, replicate
from kvsim.units import MILLI
from kvsim.workload.accesses import Accesses, accesses_of
from kvsim.workload.workload import Workload

ALL, SINGLE_TURN, MULTI_TURN, PREFILL = "hit_rate", "single_turn_hit_rate", "multi_turn_hit_rate", "prefill_ms"


@dataclass(frozen=True)
class Passed:
    """Requests that pass a cache, and which of them are turns of a conversation."""

    workload: Workload
    is_multi_turn: np.ndarray
    block_tokens: int
    accesses: Accesses

    @classmethod
    def of(cls, workload: Workload, is_multi_turn: np.ndarray, block_tokens: int) -> Passed:
        """``workload`` in blocks of that size."""
        return cls(workload, is_multi_turn, block_tokens, accesses_of(workload, block_tokens))

    def capacity_blocks(self, share: float) -> int:
        """A share of all blocks there are."""
        return max(1, round(share * self.accesses.num_different))

    def figures(self, policy: str, capacity_blocks: int, plan: Plan, seed: int) -> Figures:
        """Shares of prompt tokens found, of all and of either kind, and the time that computing the rest takes."""
        found = found_by_prompt(make_eviction(policy, capacity_blocks, seed), self.accesses)
        hit_tokens = np.array(found, dtype=np.float64) * self.block_tokens
        prompts = self.workload.prompt_tokens.astype(np.float64)
        multi = self.is_multi_turn
        return {
            ALL: float(hit_tokens.sum() / prompts.sum()),
            SINGLE_TURN: float(hit_tokens[~multi].sum() / max(prompts[~multi].sum(), 1.0)),
            MULTI_TURN: float(hit_tokens[multi].sum() / max(prompts[multi].sum(), 1.0)),
            PREFILL: float(prefill_ms(plan, prompts, hit_tokens).mean()),
        }


def prefill_ms(plan: Plan, prompt_tokens: np.ndarray, hit_tokens: np.ndarray) -> np.ndarray:
    """What computing each prompt takes an instance that does nothing else, in steps of the token budget."""
    c, budget = plan.step_time.coefficients, plan.colocated_settings.max_num_batched_tokens
    hit = np.minimum(hit_tokens, prompt_tokens - 1)
    computed = prompt_tokens - hit
    whole = np.floor(computed / budget)
    rest = computed - whole * budget
    dense_s = whole * c.dense_s(np.full_like(computed, budget)) + np.where(rest > 0, c.dense_s(rest), 0.0)
    seconds: np.ndarray = dense_s + c.b_s_per_token2 * c.attention_work(computed, hit)
    return seconds / MILLI


def replayed(
    context: StudyContext,
    passed_by: Callable[[int], Passed],
    policies: Sequence[str],
    base: str,
    capacity_blocks: Callable[[Passed], int],
    goal: Goal,
) -> Replicated[str]:
    """Every policy on the same requests, with seed after seed; ``passed_by(seed)`` draws them."""

    def measure(replications: Sequence[int], running: Sequence[str]) -> list[tuple[dict[str, Figures], int]]:
        found = []
        for replication in replications:
            seed = context.seeds[replication]
            passed = passed_by(seed)
            capacity = capacity_blocks(passed)
            kept = {policy: passed.figures(policy, capacity, context.plan, seed) for policy in running}
            found.append((kept, len(passed.workload) * len(running)))
        return found

    return replicate(policies, lambda *_: base, measure, goal, context.budget())
