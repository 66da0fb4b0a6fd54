"""The clients of closed-loop benchmarks: so many users, each of whom sends the next request after the last answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kvsim.workload.graph import RequestGraph
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

ROUNDS = 10
"""Requests of a user."""


@dataclass(frozen=True)
class UserBehaviour:
    """The part of a benchmark's client that decides which of its users waits for whom."""

    shortest_share: float
    """Prompts and answers are uniformly between this share of the length asked for and all of it."""
    sending_s: float
    """Between the first requests of two users."""
    turnaround_s: float = 0.01
    """From an answer's end to the user's next request, the mean."""

    @property
    def words(self) -> str:
        if self.shortest_share < 1:
            return f"lengths from {self.shortest_share:.0%} to 100% of those given, all users start at once"
        return "lengths exactly as given, all users start at once"


CLIENTS = {
    "random_lengths": UserBehaviour(shortest_share=0.8, sending_s=0.001),
    "exact_lengths": UserBehaviour(shortest_share=1.0, sending_s=0.0),
}
"""``random_lengths``: InferenceX (InferenceMAX), which runs vLLM's serving benchmark with a random range ratio of 0.8.
``exact_lengths``: AIPerf's fixed lengths, which keep users in step, as AIConfigurator's evaluation ran it."""


def users(client: UserBehaviour, concurrency: int, prompt_tokens: int, output_tokens: int, seed: int) -> Workload:
    """``ROUNDS`` requests of each user, with prompts that share nothing."""
    generator = np.random.default_rng(seed)
    total = ROUNDS * concurrency

    def lengths(tokens: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        shares = generator.uniform(client.shortest_share, 1.0, total)
        return np.maximum(1, np.round(tokens * shares)).astype(np.int32)

    prompts, outputs = lengths(prompt_tokens), lengths(output_tokens)
    after = np.arange(total) - concurrency
    after[:concurrency] = -1
    info = WorkloadInfo(source=f"{concurrency} users", format="synthetic", infinite_cache_hit_rate_tokens=0.0)
    sent_s = np.arange(total, dtype=np.float64) * client.sending_s
    alone = Workload.private(sent_s, prompts, outputs, info)
    return replace(alone, graph=RequestGraph.turns(after, generator.exponential(client.turnaround_s, total)))
