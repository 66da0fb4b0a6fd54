"""What one setting changes: any number of its values side by side with the configured one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvsim.config import Config, dump
from kvsim.config.changed import changed
from kvsim.config.comparison import STEPWISE, Comparison
from kvsim.config.effect import why_unseen
from kvsim.plan.plan import Plan, make_plan
from kvsim.policy.admission import ADMISSIONS, Admission
from kvsim.policy.eviction import eviction_class
from kvsim.policy.eviction.named import find_class
from kvsim.policy.prefetch import PREFETCHERS, Prefetch
from kvsim.record.result import SystemResult
from kvsim.sim.routing import check_names
from kvsim.sim.run import SYSTEMS
from kvsim.study.context import LOAD, Bed, latencies, own_load, throughput_per_s
from kvsim.study.sequential import Figures, Replicated
from kvsim.workload.workload import Workload

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""

Setting = tuple[int, str]
"""Which comparison, and which of its values."""
Arm = tuple[Setting, str]
"""A setting, and the system that runs with it."""
CONFIGURED: Setting = (-1, "")


def compare_study(bed: Bed, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The report's ``studies.compare``: both systems with each value, paired with the same run as configured.

    ``loads``: what share of its maximum rate either was offered in these runs as configured.
    """
    rate_per_s = bed.sample_requests_per_s
    num_requests = bed.requests_at(bed.sample, rate_per_s, FACTOR)
    plans: dict[Setting, Plan] = {CONFIGURED: bed.sample}
    for at, comparison in enumerate(comparisons):
        for value in comparison.values:
            plans[at, str(value)] = variant(bed.plan, comparison, value, bed.sample.num_gpus)

    def serve(arm: Arm, workload: Workload, seed: int) -> SystemResult:
        (at, value), name = arm
        label = "as configured" if arm[0] == CONFIGURED else f"{comparisons[at].key} = {value}"
        return bed.run(label, name, plans[arm[0]], workload, seed)

    arms: list[Arm] = [(which, name) for which in plans for name in SYSTEMS]
    found = bed.replicate(
        arms,
        lambda arm, _: (CONFIGURED, arm[1]),
        lambda seed: bed.workload(rate_per_s, num_requests, seed),
        serve,
        lambda arm, workload, result: {
            **_figures(result),
            **(own_load(bed.sample, workload, result) if arm[0] == CONFIGURED else {}),
        },
        bed.goal("ttft_mean_ms"),
    )
    return {
        **bed.sizes(bed.sample),
        **found.report(),
        "requests": found.requests_a_run,
        "requests_per_s": rate_per_s,
        "loads": {name: found.means((CONFIGURED, name), (LOAD,))[LOAD]["mean"] for name in SYSTEMS},
        "configured": {name: found.means((CONFIGURED, name)) for name in SYSTEMS},
        "keys": [
            {
                "key": comparison.key,
                "configured": _configured(bed.plan, comparison.key),
                "rows": [
                    {
                        "value": value,
                        "unseen": why_unseen(plans[at, str(value)].config, comparison.key),
                        **_row(found, (at, str(value))),
                    }
                    for value in comparison.values
                ],
            }
            for at, comparison in enumerate(comparisons)
        ],
    }


def variant(plan: Plan, comparison: Comparison, value: Any, num_gpus: int) -> Plan:
    """``plan`` with one value changed, on at most ``num_gpus`` GPUs. Raises ``ConfigError`` for what cannot be.

    The unified baseline keeps its token budget, unless that is what is compared.
    """
    stepwise = plan.prefill_settings.stepwise
    config: Config = plan.config
    if comparison.key == STEPWISE:
        stepwise = value
    else:
        config = changed(config, {comparison.key: value}, comparison.flag)
    made = make_plan(config, stepwise=stepwise)
    if comparison.key != "engine.max_num_batched_tokens":
        made = made.with_colocated_budget(plan.colocated_settings.max_num_batched_tokens)
    return made.scaled_to(max(2, min(made.num_instances, num_gpus // made.spec.tensor_parallel)))


def check_comparisons(plan: Plan, comparisons: Sequence[Comparison]) -> None:
    """Raises ``ConfigError`` for the first value that no cluster can be built with."""
    for comparison in comparisons:
        for value in comparison.values:
            config = variant(plan, comparison, value, plan.num_gpus).config
            check_names(config.routing.prefill, config.routing.decode)
            eviction_class(config.policies.eviction)
            find_class("prefetch", config.policies.prefetch, PREFETCHERS, Prefetch)
            find_class("admission", config.policies.admission, ADMISSIONS, Admission)


def _configured(plan: Plan, key: str) -> Any:
    if key == STEPWISE:
        return plan.prefill_settings.stepwise
    value: Any = dump(plan.config)
    for part in key.split("."):
        value = value[part]
    return value


def _row(found: Replicated[Arm], which: Setting) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in SYSTEMS:
        arm, base = (which, name), (CONFIGURED, name)
        row[name] = found.means(arm)
        row[f"{name}_difference"] = {metric: found.apart(arm, base, metric).report() for metric in row[name]}
        row[f"{name}_runs"] = len(found.figures[arm])
    return row


def _figures(result: SystemResult) -> Figures:
    use = result.cache
    return {
        **latencies(result),
        "prefix_hit_rate": use.hit_tokens / use.query_tokens if use.query_tokens else 0.0,
        "throughput_requests_per_s": throughput_per_s(result),
        "preemptions": float(use.preemptions),
    }
