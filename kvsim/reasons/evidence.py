"""What the rules look at: one result of an experiment, what was counted of it, and what follows from its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvsim.modes.experiment import Experiment
from kvsim.plan.engine_settings import EngineSettings
from kvsim.reasons.prefixes import Caches, Missed, missed
from kvsim.record.figures import SystemSummary
from kvsim.record.result import SystemResult
from kvsim.spec import InstanceSpec
from kvsim.workload.workload import Ints

MOST_REQUESTS = 200_000
"""Requests: of more than so many only those of some instances are looked at."""
WORTH = 0.01
"""What explains a smaller share is not told."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One system of an experiment."""

    experiment: Experiment
    result: SystemResult
    summary: SystemSummary
    others: Sequence[SystemSummary] = ()
    """The others that it was compared with."""

    @property
    def is_pd(self) -> bool:
        return self.result.transfer is not None

    @property
    def has_tiers(self) -> bool:
        return bool(self.result.cache.tiers)

    @property
    def spec(self) -> InstanceSpec:
        """The instances that compute prompts."""
        plan = self.experiment.plan
        return plan.prefill.spec if self.is_pd else plan.spec

    @property
    def settings(self) -> EngineSettings:
        plan = self.experiment.plan
        return plan.prefill_settings if self.is_pd else plan.colocated_settings

    @property
    def instances(self) -> int:
        return self.result.roles[0].instances

    @cached_property
    def rows(self) -> Ints:
        """Rows of the table that are looked at: all, or those of every so many-th instance."""
        instance = self.result.table["prefill_instance"].astype(np.int64)
        stride = max(1, -(-len(instance) // MOST_REQUESTS))
        return np.flatnonzero(instance % stride == 0) if stride > 1 else np.arange(len(instance))

    @property
    def is_sample(self) -> bool:
        return len(self.rows) < len(self.result.table["request_id"])

    @cached_property
    def missed(self) -> Missed:
        workload, config = self.experiment.workload, self.experiment.plan.config
        known = workload.info.generated_known
        caches = Caches(
            block_tokens=self.settings.block_size,
            enabled=self.settings.enable_prefix_caching,
            answers_stay=not self.is_pd or (config.pd_separation.return_generated_kv and known),
            evicts=self.result.cache.evicted_blocks > 0,
            in_order=self.settings.scheduling_policy == "fcfs",
        )
        return missed(workload, self.result.table, caches, self.rows)

    @property
    def sampled(self) -> str:
        """A clause where not all requests were looked at."""
        whole = len(self.result.table["request_id"])
        return f" (of {len(self.rows):,} of {whole:,} requests, those of some instances)" if self.is_sample else ""
