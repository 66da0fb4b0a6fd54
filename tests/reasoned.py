"""Reasons of small runs through the real engine, without a mode around them, every one held against the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

from reason_comparisons import findings

from kvsim.plan.plan import Plan
from kvsim.reasons import Reason, reasons_of
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.sim.run import Case, run
from kvsim.workload.workload import Workload


def ran(
    plan: Plan, workload: Workload, system: str = "unified", *, loads: dict[str, float] | None = None
) -> SystemResult:
    """``loads``: of its roles, as a mode would have worked them out."""
    result = run(Case(system, system, plan, workload, 1, keeps_detail=True)).system
    roles = tuple(replace(role, load=(loads or {}).get(role.role, role.load)) for role in result.roles)
    return replace(result, roles=roles)


def reasoned(
    plan: Plan, workload: Workload, *results: SystemResult, balanced: tuple[int, int] | None = None
) -> tuple[Reason, ...]:
    """Why ``results`` of ``workload`` came out so; that of the unified system where none are given."""
    results = results or (ran(plan, workload),)
    summaries = [summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=1) for result in results]
    sizes = (plan.num_prefill, plan.num_decode)
    cluster = SimpleNamespace(balanced_pd_ratio=balanced, prefill_instances=sizes[0], decode_instances=sizes[1])
    experiment = SimpleNamespace(
        plan=plan, workload=workload, results=results, plans=(plan,) * len(results), cluster=cluster
    )
    reasons = reasons_of(experiment, summaries)  # type: ignore[arg-type]
    assert findings(experiment, reasons) == []  # type: ignore[arg-type]
    return reasons


def of(reasons: tuple[Reason, ...], about: str, rule: str | None = None) -> dict[str, str]:
    """Sentences by rule."""
    return {each.rule: each.sentence for each in reasons if each.about == about and rule in (None, each.rule)}


def subject_of(rule: Callable[..., Reason | None]) -> str:
    """What a rule is about: its file, but for arrivals, which are a reason for TTFT."""
    file = rule.__module__.rpartition(".")[2]
    return "ttft" if file == "arrivals" else file
