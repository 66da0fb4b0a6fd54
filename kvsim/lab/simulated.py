"""The backend that simulates: a server that has just started, and a client that counts every request."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvsim.api import simulate
from kvsim.errors import CapacityError
from kvsim.export.token_times import token_times_s
from kvsim.lab.backend import SIMULATED, Asked, Served
from kvsim.record.frames import detail_of
from kvsim.sim.clean_processes import begin_worker, clean_context, clean_start

if TYPE_CHECKING:
    from kvsim.record.binned import Floats
    from kvsim.record.result import SystemResult
    from kvsim.simulation import Simulation

COLD = ("load.warm_caches=false", "pd_experiments.warmup_share=0")
_WORTH_REQUESTS = 20_000
"""Requests of all runs together from which on processes save more than they take to begin."""


@dataclass(frozen=True)
class Simulated:
    """``seed`` draws arrivals and lengths, the same ones for every server that is served the same."""

    seed: int
    jobs: int = 1
    """Runs at a time, where there are enough requests."""
    name: str = SIMULATED

    def serve(self, asked: Sequence[Asked]) -> list[Served]:
        """What comes of each, in their order."""
        if self.jobs < 2 or len(asked) < 2 or sum(one.requests for one in asked) < _WORTH_REQUESTS:
            return [served(one, self.seed) for one in asked]
        context = clean_context("kvsim.lab.simulated")
        with clean_start(), ProcessPoolExecutor(self.jobs, context, begin_worker) as pool:
            return list(pool.map(served, asked, [self.seed] * len(asked)))


def served(asked: Asked, seed: int) -> Served:
    """Simulate one run."""
    simulation = simulation_of(asked, seed)
    result = simulation.report.results[0]
    return Served(
        asked=asked,
        requests=simulation.requests,
        itl_ms=result.itl_ms,
        kv_tokens=simulation.config.engine.block_size * result.cache.blocks_per_instance * asked.instances,
        gaps_s=_gaps_s(simulation.systems[0]) if asked.keeps_steps else None,
        steps=simulation.steps if asked.keeps_steps else None,
    )


def simulation_of(asked: Asked, seed: int) -> Simulation:
    """The run itself. Raises ``CapacityError`` where not every request was served."""
    at_once = asked.rate_per_s is None and asked.concurrency is None
    simulation = simulate(
        asked.line,
        gpu=asked.gpu,
        instances=asked.instances,
        workload=asked.workload,
        rate=asked.rate_per_s,
        concurrency=asked.requests if at_once else asked.concurrency,
        requests=asked.requests,
        sets=(*COLD, f"seed={seed}", *asked.sets),
        searches_rate=False,
        finds_binding=False,
        detail=asked.keeps_steps,
    )
    counts = simulation.report.results[0].requests
    if simulation.run.status == "incomplete":
        raise KeyboardInterrupt
    if counts.completed < counts.arrived:
        raise CapacityError(f"{asked.line}: {counts.arrived - counts.completed} of {counts.arrived} requests failed")
    return simulation


def _gaps_s(result: SystemResult) -> Floats:
    rows = np.arange(len(result.table["request_id"]))
    found = [
        np.stack([times_s[1:], np.diff(times_s)], axis=1)
        for _, times_s, _ in token_times_s(result, detail_of(result), rows)
    ]
    gaps = np.concatenate(found) if found else np.empty((0, 2))
    return np.asarray(gaps[np.argsort(gaps[:, 0], kind="stable")], dtype=np.float64)
