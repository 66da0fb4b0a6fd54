"""What studies of memory below the GPUs have in common: plans with other memory, and what is measured of their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case
from kvsim.study.context import StudyContext
from kvsim.study.measures import latencies
from kvsim.study.replication import Arm, Figures, Goal, Replicated
from kvsim.units import GB
from kvsim.workload.workload import Workload

BEST, BASE = "belady", "lru"


def changed(plan: Plan, tiers: Sequence[str] | None = None, **settings: float | str) -> Plan:
    """The plan with other tiers, or other values of settings: section and key joined by two underscores."""
    config = plan.config
    for path, value in settings.items():
        config = _with(config, path.split("__"), value)
    return replace(plan, config=config, tiers=plan.tiers if tiers is None else tuple(tiers))


def _with(section: Any, path: Sequence[str], value: Any) -> Any:
    if len(path) > 1:
        value = _with(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: value})


def figures(result: SystemResult) -> dict[str, Any]:
    """What the tables of these studies show of a run.

    ``growing_share``: whether TTFT grew with its length, as where the rate of the run that the study belongs to is more
    than this memory lets the instances serve; of several runs the share that did.
    """
    use = result.cache
    queried = max(use.query_tokens, 1)
    return {
        "hit_rate": use.hit_tokens / queried,
        "by_tier": {tier.name: tier.loaded_tokens / queried for tier in use.tiers},
        "busiest_share": {tier.name: tier.busiest_share for tier in use.tiers},
        "mean_wait_ms": {tier.name: tier.mean_wait_s * 1e3 for tier in use.tiers},
        "held_gb": {tier.name: tier.held_bytes / GB for tier in use.tiers},
        "capacity_gb": {tier.name: tier.capacity_bytes / GB for tier in use.tiers},
        "misses": {reason: tokens / queried for reason, tokens in use.misses.items()},
        **latencies(result),
        "growing_share": float(result.pace is not None and result.pace.overloaded),
    }


def flat(found: Mapping[str, Any]) -> Figures:
    """One number a key: those inside others get both names, with a dot between."""
    numbers: Figures = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}.{inner}": float(number) for inner, number in value.items()}
        else:
            numbers[name] = float(value)
    return numbers


def means(found: Replicated[Arm], arm: Arm) -> dict[str, Any]:
    """``figures`` of the mean over an arm's runs."""
    row: dict[str, Any] = {"by_tier": {}, "busiest_share": {}, "mean_wait_ms": {}, "held_gb": {}, "capacity_gb": {}}
    for name, around in found.means(arm).items():
        outer, _, inner = name.partition(".")
        if inner:
            row.setdefault(outer, {})[inner] = around["mean"]
        else:
            row[outer] = around["mean"]
    return {**row, "runs": len(found.figures[arm])}


def replicated(
    context: StudyContext,
    plans: Mapping[Arm, Plan],
    base_of: Callable[[Arm], Arm],
    goal: Goal,
    requests: Callable[[int], Workload] | None = None,
    share: float = 1.0,
) -> Replicated[Arm]:
    """``requests(seed)``, or else parts of the run's, served on every plan, with seed after seed.

    ``share`` of ``studies.tier_budget_requests`` is for that.
    """

    def case_of(arm: Arm, workload: Workload, seed: int) -> Case:
        name = " ".join(map(str, arm)) if isinstance(arm, tuple) else str(arm)
        return context.case(f"{name}, {context.seeds.index(seed) + 1}", "unified", plans[arm], workload, seed)

    return context.replicate(
        list(plans),
        lambda arm, _: base_of(arm),
        requests or context.part,
        case_of,
        lambda _, __, result: flat(figures(result)),
        goal,
        share,
        own_windows=True,
    )
