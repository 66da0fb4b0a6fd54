"""What one setting changes: any number of its values side by side with the configured one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvsim.config import Config, dump
from kvsim.config.changed import changed
from kvsim.config.comparison import STEPWISE, Comparison
from kvsim.policy.routing import check_names
from kvsim.record.result import SystemResult
from kvsim.system.pilot import SYSTEMS
from kvsim.system.plan import Plan, make_plan
from kvsim.system.studies.bed import Bed, latencies, throughput_per_s
from kvsim.system.studies.intervals import difference, interval

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""

Figures = dict[str, float]


def compare_study(bed: Bed, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The report's ``studies.compare``: both systems with each value, paired with the same run as configured."""
    rate_per_s = bed.sample_requests_per_s
    num_requests = bed.requests_at(bed.sample, rate_per_s, FACTOR)
    plans = {
        (at, str(value)): (value, variant(bed.plan, comparison, value, bed.sample.num_gpus))
        for at, comparison in enumerate(comparisons)
        for value in comparison.values
    }
    base: dict[str, list[Figures]] = {name: [] for name in SYSTEMS}
    found: dict[tuple[int, str], dict[str, list[Figures]]] = {at: {name: [] for name in SYSTEMS} for at in plans}
    for seed in bed.replications():
        workload = bed.workload(rate_per_s, num_requests, seed)
        for name in SYSTEMS:
            base[name].append(_figures(bed.run("as configured", name, bed.sample, workload, seed)))
            for at, (value, plan) in plans.items():
                label = f"{comparisons[at[0]].key} = {value}"
                found[at][name].append(_figures(bed.run(label, name, plan, workload, seed)))
    return {
        "instances": bed.sample.num_instances,
        "replications": len(bed.seeds),
        "confidence": bed.confidence,
        "requests": num_requests,
        "requests_per_s": rate_per_s,
        "configured": {name: _intervals(figures, bed.confidence) for name, figures in base.items()},
        "keys": [
            {
                "key": comparison.key,
                "configured": _configured(bed.plan, comparison.key),
                "rows": [
                    {"value": value, **_row(found[at], base, bed.confidence)}
                    for at, (value, _) in plans.items()
                    if at[0] == number
                ],
            }
            for number, comparison in enumerate(comparisons)
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
            routing = variant(plan, comparison, value, plan.num_gpus).config.routing
            check_names(routing.prefill, routing.decode)


def _configured(plan: Plan, key: str) -> Any:
    if key == STEPWISE:
        return plan.prefill_settings.stepwise
    value: Any = dump(plan.config)
    for part in key.split("."):
        value = value[part]
    return value


def _row(found: dict[str, list[Figures]], base: dict[str, list[Figures]], confidence: float) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, figures in found.items():
        row[name] = _intervals(figures, confidence)
        apart = {
            metric: difference([one[metric] for one in figures], [one[metric] for one in base[name]], confidence)
            for metric in figures[0]
        }
        row[f"{name}_difference"] = {metric: {**at.report(), "tie": at.holds_zero} for metric, at in apart.items()}
    return row


def _intervals(figures: list[Figures], confidence: float) -> dict[str, Any]:
    return {metric: interval([one[metric] for one in figures], confidence).report() for metric in figures[0]}


def _figures(result: SystemResult) -> Figures:
    use = result.cache
    return {
        **latencies(result),
        "prefix_hit_rate": use.hit_tokens / use.query_tokens if use.query_tokens else 0.0,
        "throughput_requests_per_s": throughput_per_s(result),
        "preemptions": float(use.preemptions),
    }
