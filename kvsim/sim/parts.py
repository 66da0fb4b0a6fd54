"""The runs that a run is made of, where parts of the cluster share nothing: cells, or instances that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from kvsim.errors import ConfigError
from kvsim.plan.cells import cell_seed
from kvsim.plan.plan import Place, Plan
from kvsim.sim.engine.block_table import Path
from kvsim.sim.merge import Merge, Numbers
from kvsim.sim.run import Case
from kvsim.sim.systems.fleet_of import is_looked_after
from kvsim.sim.systems.given import GivenHeads
from kvsim.sim.systems.marks import marked_arrivals
from kvsim.sim.systems.run_part import RunPart
from kvsim.sim.systems.size import check_parts
from kvsim.sim.systems.warm import common_heads
from kvsim.workload.dealing import dealt
from kvsim.workload.graph import Ints
from kvsim.workload.workload import Workload

GROUP: Final = 64
"""Instances that take turns, of one part."""


class Parts:
    """A case as several, which share nothing."""

    def __init__(self, case: Case, plans: Sequence[Plan], seeds: Sequence[int], part_of: Ints) -> None:
        """``plans``, ``seeds``: of each part. ``part_of``: the part that each request goes to."""
        self._case, self._plans, self._seeds = case, plans, seeds
        check_parts(case.plan, case.workload, len(plans))
        order = np.argsort(part_of, kind="stable")
        self._rows = np.split(order, np.cumsum(np.bincount(part_of, minlength=len(plans)))[:-1])
        workload, is_pd = case.workload, case.system == "pd"
        stop_s = None if case.drains else float(workload.arrival_s[-1])
        self._marks_s = None if workload.is_closed else _marks_s(workload, case.warmup_requests, stop_s)
        settings = case.plan.prefill_settings if is_pd else case.plan.colocated_settings
        heads: list[Path] = []
        if case.plan.config.load.warm_caches and workload.info.format == "synthetic":
            heads = common_heads(workload, settings.block_size)
        self._part = RunPart(self._marks_s, tuple(heads), stop_s)
        prefills = [plan.num_prefill if is_pd else plan.num_instances for plan in plans]
        decodes = [plan.num_decode if is_pd else plan.num_instances for plan in plans]
        self._first_prefill, self._first_decode = _firsts(prefills), _firsts(decodes)

    def __len__(self) -> int:
        return len(self._plans)

    def case(self, number: int) -> Case:
        """One of them; its requests are numbered from 0 on, as its instances are."""
        case, rows = self._case, self._rows[number]
        workload, patience, given = case.workload, case.patience, case.given
        if patience is not None:
            own = int(np.searchsorted(rows, patience.patient_requests))
            patience = replace(patience, patient_requests=own)
        if given is not None:
            given = GivenHeads(given.prefill[rows], given.decode[rows])
        return replace(
            case,
            plan=self._plans[number],
            workload=workload.taken(rows, workload.arrival_s[rows]),
            seed=self._seeds[number],
            warmup_requests=int(np.searchsorted(rows, case.warmup_requests)),
            patience=patience,
            given=given,
            part=self._part,
        )

    def numbers(self, number: int) -> Numbers:
        """What the whole run calls what ``case(number)`` numbers."""
        return Numbers(self._rows[number], self._first_prefill[number], self._first_decode[number])

    def requests(self, number: int) -> int:
        """How many it serves."""
        return len(self._rows[number])

    def merge(self) -> Merge:
        """Where what they leave is added, in their order."""
        plan, places = self._case.plan, self._places()
        prefills = plan.num_prefill if self._case.system == "pd" else plan.num_instances
        return Merge(len(self._case.workload), plan.config, places, prefills, self._marks_s, self._cells_note())

    def _cells_note(self) -> str | None:
        plan, counts = self._case.plan, [len(rows) for rows in self._rows]
        if plan.cells == 1:
            return None
        gpus = f"{plan.num_gpus // plan.cells:,} GPUs"
        spread = f"{min(counts):,} to {max(counts):,} requests each"
        return f"{plan.cells:,} cells of {gpus} that share nothing: {spread}, dealt by session, else in turn"

    def _places(self) -> list[Place]:
        plan = self._case.plan
        if self._case.system != "pd":
            return plan.unified_places()
        return sorted(plan.places(), key=lambda place: not place.is_prefill)


def _marks_s(workload: Workload, warmup_requests: int, stop_s: float | None) -> tuple[float, ...]:
    """Times of the arrivals that are marked, where these are known; not of those for which the run ends too soon."""
    if not len(workload):
        return ()
    times_s: list[float] = workload.arrival_s[sorted(marked_arrivals(len(workload), warmup_requests))].tolist()
    return tuple(time_s for time_s in times_s if stop_s is None or time_s < stop_s)


def parts_of(case: Case) -> Parts | None:
    """The parts of ``case``; ``None`` where it is one run. Raises ``ConfigError`` where it cannot be cut as asked."""
    if case.part is not None:
        return None
    plan, workload = case.plan, case.workload
    if plan.cells > 1:
        if plan.config.fleet.events or plan.config.autoscale.is_on:
            key = "fleet.events" if plan.config.fleet.events else "autoscale.policy"
            raise ConfigError(
                f"routing.cells makes {plan.cells} cells that know nothing of each other, and {key} is about the whole "
                "cluster; give one of them"
            )
        if workload.max_concurrency is not None:
            raise ConfigError(
                f"routing.cells makes {plan.cells} cells, which share nothing, and over all of them at most "
                f"{workload.max_concurrency:,} requests are to be in flight; allowed: requests at a rate"
            )
        seeds = [cell_seed(case.seed, number) for number in range(plan.cells)]
        plans = [plan.cell(number) for number in range(plan.cells)]
        return Parts(case, plans, seeds, dealt(workload, plan.cells))
    if _takes_turns(case):
        return _in_turn(case)
    return None


def _takes_turns(case: Case) -> bool:
    """Whether each instance runs as if alone: requests go to them in turn, whatever happens, and nothing is shared.

    Tiers and what waits for answers would tie instances together, as front ends of data-parallel groups do; what is
    drawn of drafts depends on the numbers of requests; and what clients have given up is computed until the last ends.
    """
    plan, config = case.plan, case.plan.config
    return (
        case.system == "unified"
        and config.routing.prefill == "round_robin"
        and plan.num_instances >= 2 * GROUP
        and not plan.tiers
        and not case.workload.is_closed
        and case.patience is None
        and not is_looked_after(config)
        and plan.colocated_settings.speculation is None
        and config.engine.data_parallel_size == 1
        and config.cache.restart_after_requests is None
    )


def _in_turn(case: Case) -> Parts:
    """Parts of ``GROUP`` instances each, or of up to twice as many."""
    plan, workload = case.plan, case.workload
    count = plan.num_instances // GROUP
    edges = [plan.num_instances * part // count for part in range(count + 1)]
    plans = [replace(plan, num_instances=end - first) for first, end in pairwise(edges)]
    fits = _fits(plan, workload)
    instance = np.zeros(len(workload), dtype=np.int64)
    instance[fits] = np.arange(int(fits.sum())) % plan.num_instances
    part_of = np.searchsorted(np.array(edges[1:]), instance, side="right")
    return Parts(case, plans, [case.seed] * count, part_of)


def _fits(plan: Plan, workload: Workload) -> np.ndarray:
    """Whether each request fits an instance: others are refused before they are routed."""
    settings = plan.colocated_settings
    prompts = workload.prompt_tokens.astype(np.int64)
    outputs = np.minimum(workload.output_tokens, settings.max_model_len - prompts)
    totals, place = np.unique(prompts + outputs, return_inverse=True)
    holds = np.array([settings.fits(total) for total in totals.tolist()], dtype=np.bool_)
    found: np.ndarray = (outputs >= 1) & holds[place]
    return found


def _firsts(counts: Sequence[int]) -> list[int]:
    """The number of each part's first, where every part has so many."""
    return [0, *np.cumsum(counts)[:-1].tolist()]
