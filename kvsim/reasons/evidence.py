"""What the rules look at: one result of an experiment, what was counted of it, and what follows from its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvsim.modes.experiment import Experiment
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.plan import Plan
from kvsim.reasons.prefixes import Caches, Missed, missed
from kvsim.record.figures import SystemSummary
from kvsim.record.fleet import Incident
from kvsim.record.labels import counted, listed
from kvsim.record.result import SystemResult
from kvsim.spec import InstanceSpec
from kvsim.workload.workload import Ints

MOST_REQUESTS = 200_000
"""Requests that are looked at: where there are more, the first to arrive, which depend on no later one."""
FORGETTING = ("fail", "drain", "rolling_restart", "pool", "drive")
"""Kinds of incidents after which something that was cached is gone."""
WORTH = 0.01
"""What explains a smaller share is not told."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One system of an experiment."""

    experiment: Experiment
    plan: Plan
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
        return self.plan.prefill.spec if self.is_pd else self.plan.spec

    @property
    def settings(self) -> EngineSettings:
        return self.plan.prefill_settings if self.is_pd else self.plan.colocated_settings

    @property
    def has_kinds(self) -> bool:
        """Whether its instances have seats, blocks and budgets by kind, of which ``settings`` are the first's."""
        return bool(self.plan.pools) and not self.is_pd

    @property
    def instances(self) -> int:
        return self.result.roles[0].instances

    @property
    def is_restarted(self) -> bool:
        """Whether all that was cached in memory was lost on the way (``cache.restart_after_requests``)."""
        after = self.plan.config.cache.restart_after_requests
        return after is not None and self.result.arrived >= after > 0

    @property
    def is_forgetful(self) -> bool:
        """Whether caches were lost on the way, or attempts of requests, of which the table has the last alone."""
        fleet = self.result.fleet
        return self.is_restarted or bool(self.caches_lost) or (fleet is not None and fleet.lost_attempts > 0)

    @property
    def caches_lost(self) -> int:
        """Times that an instance, a pool or a drive lost what it had cached."""
        return sum(max(1, each.instances) for each in self.incidents if each.kind in FORGETTING)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What happened to parts of the cluster."""
        return () if self.result.fleet is None else self.result.fleet.incidents

    @property
    def forgot(self) -> str:
        """What became of caches and attempts, where ``is_forgetful``, in words."""
        said, fleet = [], self.result.fleet
        if self.is_restarted:
            after = self.plan.config.cache.restart_after_requests or 0
            said = [
                f"all that was cached was lost when {counted(after, 'request')} had arrived "
                "(cache.restart_after_requests)"
            ]
        if self.caches_lost:
            kinds = dict.fromkeys(each.kind for each in self.incidents if each.kind in FORGETTING)
            said.append(f"caches were lost {counted(self.caches_lost, 'time')} (fleet.events: {listed(list(kinds))})")
        if fleet is not None and fleet.lost_attempts:
            said.append(f"{counted(fleet.lost_attempts, 'attempt')} came to nothing")
        return listed(said)

    @cached_property
    def rows(self) -> Ints:
        """Rows of the table that are looked at."""
        arrival_s = self.result.table["arrival_s"]
        if len(arrival_s) <= MOST_REQUESTS:
            return np.arange(len(arrival_s))
        return np.sort(np.argsort(arrival_s, kind="stable")[:MOST_REQUESTS])

    @property
    def is_sample(self) -> bool:
        return len(self.rows) < len(self.result.table["request_id"])

    @cached_property
    def missed(self) -> Missed:
        workload = self.experiment.workload
        caches = Caches(
            block_tokens=self.settings.block_size,
            enabled=self.settings.enable_prefix_caching,
            answers_stay=not self.is_pd,
            evicts=self.result.cache.evicted_blocks > 0,
            in_order=self.settings.scheduling_policy == "fcfs",
        )
        return missed(workload, self.result.table, caches, self.rows)

    @property
    def sampled(self) -> str:
        """A clause where not all requests were looked at."""
        whole = len(self.result.table["request_id"])
        return f" (of the first {len(self.rows):,} of {whole:,} requests)" if self.is_sample else ""
