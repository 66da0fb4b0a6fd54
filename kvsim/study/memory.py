"""What studies of memory below the GPUs have in common: plans with other memory, and what is measured of their runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kvsim.plan.plan import Plan
from kvsim.record.plain import OMITTED
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
    found = replace(plan, config=config, tiers=plan.tiers if tiers is None else tuple(tiers))
    return found.without_groups() if found.tiers else found


def _with(section: Any, path: Sequence[str], value: Any) -> Any:
    if len(path) > 1:
        value = _with(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: value})


ByTier = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """What the tables of these studies show of a run; ``nan`` where there was nothing to measure."""

    hit_rate: float
    by_tier: ByTier
    """Shares of prompt tokens that were loaded from each."""
    busiest_share: ByTier
    mean_wait_ms: ByTier
    held_gb: ByTier
    capacity_gb: ByTier
    misses: Mapping[str, float]
    """Shares of prompt tokens, by the reason."""
    ttft_mean_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    tpot_p99_ms: float
    growing_share: float
    """Share of runs whose TTFT grew with their length, as where the rate of the run that the study belongs to is more
    than this memory lets the instances serve.
    """


@dataclass(frozen=True, kw_only=True)
class MemoryMeans:
    """Means of :class:`MemoryFigures` over the ``runs`` of one variant."""

    by_tier: ByTier
    busiest_share: ByTier
    mean_wait_ms: ByTier
    held_gb: ByTier
    capacity_gb: ByTier
    hit_rate: float
    misses: Mapping[str, float] | None = field(default=None, metadata=OMITTED)
    """``None`` where there are no tiers."""
    ttft_mean_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    tpot_p99_ms: float
    growing_share: float
    runs: int


def figures(result: SystemResult) -> MemoryFigures:
    """What one run shows."""
    use = result.cache
    queried = max(use.query_tokens, 1)
    return MemoryFigures(
        hit_rate=use.hit_tokens / queried,
        by_tier={tier.name: tier.loaded_tokens / queried for tier in use.tiers},
        busiest_share={tier.name: tier.busiest_share for tier in use.tiers},
        mean_wait_ms={tier.name: tier.mean_wait_s * 1e3 for tier in use.tiers},
        held_gb={tier.name: tier.held_bytes / GB for tier in use.tiers},
        capacity_gb={tier.name: tier.capacity_bytes / GB for tier in use.tiers},
        misses={reason: tokens / queried for reason, tokens in use.misses.items()},
        growing_share=float(result.pace is not None and result.pace.overloaded),
        **latencies(result),
    )


def flat(found: MemoryFigures) -> Figures:
    """One number a key: those inside others get both names, with a dot between."""
    numbers: Figures = {}
    for name, value in vars(found).items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}.{inner}": float(number) for inner, number in value.items()}
        else:
            numbers[name] = float(value)
    return numbers


def means(found: Replicated[Arm], arm: Arm) -> MemoryMeans:
    """What :func:`flat` figures say over an arm's runs."""
    around = {name: each.mean for name, each in found.means(arm).items()}

    def inside(name: str) -> dict[str, float]:
        return {key.partition(".")[2]: mean for key, mean in around.items() if key.startswith(f"{name}.")}

    return MemoryMeans(
        by_tier=inside("by_tier"),
        busiest_share=inside("busiest_share"),
        mean_wait_ms=inside("mean_wait_ms"),
        held_gb=inside("held_gb"),
        capacity_gb=inside("capacity_gb"),
        hit_rate=around["hit_rate"],
        misses=inside("misses") or None,
        ttft_mean_ms=around["ttft_mean_ms"],
        ttft_p99_ms=around["ttft_p99_ms"],
        tpot_mean_ms=around["tpot_mean_ms"],
        tpot_p99_ms=around["tpot_p99_ms"],
        growing_share=around["growing_share"],
        runs=len(found.figures[arm]),
    )


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
