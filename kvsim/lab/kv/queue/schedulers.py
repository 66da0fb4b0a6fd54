"""The schedulers that share a budget of KV memory: the order of those that wait, and what admission takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.errors import ConfigError, nearest
from kvsim.lab.kv.queue.workload_file import QueuedRequest
from kvsim.plan.plan import Plan
from kvsim.policy.scheduling import FCFS, PRIORITY
from kvsim.workload.workload import Counts

Priorities = Callable[[Sequence[QueuedRequest]], Counts]
IN_ORDER, FITTING = "in_order", "fitting"


@dataclass(frozen=True)
class QueueScheduler:
    """One of them."""

    about: str
    reservation: str = ""
    """``in_order``: who does not fit lets nobody pass. ``fitting``: whoever fits goes before. Both keep room for the
    whole answer. Empty: the engine's own pages and preemption."""
    priorities: Priorities | None = None
    """Lower goes first, of equals who came first. ``None``: who came first."""

    def engine(self, plan: Plan) -> Plan:
        """The plan whose engine schedules so."""
        if not self.reservation:
            return plan.with_settings("colocated", stepwise=True)
        policy = FCFS if self.priorities is None else PRIORITY
        return plan.with_settings("colocated", reservation=self.reservation, scheduling_policy=policy, watermark=0.0)


def by_footprint(requests: Sequence[QueuedRequest]) -> Counts:
    """Fewest tokens of prompt and answer first."""
    return _ranks([request.footprint_tokens for request in requests])


def by_deadline(requests: Sequence[QueuedRequest]) -> Counts:
    """Earliest deadline first, those without one last."""
    return _ranks([deadline_at_ms(request) for request in requests])


def deadline_at_ms(request: QueuedRequest) -> float:
    """By when the last token is wanted, from the start of the run; infinite where nobody says."""
    return float("inf") if request.deadline_ms is None else request.arrival_ms + request.deadline_ms


def _ranks(values: Sequence[float]) -> Counts:
    return np.unique(np.array(values, dtype=np.float64), return_inverse=True)[1].astype(np.int32)


VLLM = "vllm"
SCHEDULERS = {
    "fifo": QueueScheduler("first come, first served", IN_ORDER),
    "shortest-cache": QueueScheduler("the smallest footprint goes first", IN_ORDER, by_footprint),
    "memory-aware-deadline": QueueScheduler("the earliest deadline among those that fit", FITTING, by_deadline),
    VLLM: QueueScheduler("the engine's own: pages as tokens come, preemption"),
}
"""By name, in the order of a report."""
ALL = "all"


def schedulers_of(names: Sequence[str], flag: str) -> tuple[str, ...]:
    """Names of schedulers, each once; ``all``, or no name, stands for every one. Raises ``ConfigError``."""
    for name in names:
        if name not in SCHEDULERS and name != ALL:
            raise ConfigError(f"{flag} is {name!r}; {nearest(name, (*SCHEDULERS, ALL))}")
    return tuple(SCHEDULERS) if ALL in names or not names else tuple(each for each in SCHEDULERS if each in names)
