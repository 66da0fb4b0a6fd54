"""What a terminal says of instances that came and went with the load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvsim.record.figures import SystemSummary
from kvsim.record.labels import counted, number, percent, system_label
from kvsim.record.scaling_figures import ColdStartFigures, RoleScalingFigures, ScalingFigures
from kvsim.units import GB


def scaling_lines(results: Sequence[SystemSummary]) -> Iterator[str]:
    """What scaling cost and how late answers were, of each system that scales, then each role; none of others."""
    for result in results:
        scaling = result.scaling
        if scaling is None:
            continue
        whose = f" of {system_label(result.name)}" if len(results) > 1 else ""
        yield f"Autoscaling{whose}: {_cost(scaling)}. {_lateness(scaling)}."
        for role in scaling.roles:
            yield f"  {role.role}: {_instances(role)}; {_cold(role.cold_start)}."


def _cost(scaling: ScalingFigures) -> str:
    paid = f"{number(scaling.gpu_hours)} GPU-hours were paid"
    if not scaling.least_gpu_hours:
        return paid
    least = number(scaling.least_gpu_hours)
    return f"{paid}, {percent(scaling.gap)} more than the {least} that this work takes at least (docs/autoscaling.md)"


def _lateness(scaling: ScalingFigures) -> str:
    if not any(scaling.arrivals):
        return "No request came"
    minutes, violated = len(scaling.arrivals), round(scaling.violated_s / scaling.bin_s)
    missed = f"{percent(scaling.late_share)} of all requests missed the SLO or had no answer"
    return f"{missed}; in {violated:,} of {minutes:,} minutes more than {percent(1 - scaling.slo_share)} did"


def _instances(role: RoleScalingFigures) -> str:
    """How many there were, and how often that changed."""
    served = [serving for _, serving, _, _ in role.there]
    said = f"{role.policy}, {min(served)} to {max(served)} instances served ({role.minimum} to {role.maximum} allowed)"
    turns = counted(role.turns, "change")
    moved = f", {role.moved_in} of them from the other role" if role.moved_in else ""
    return f"{said}, {role.started} started{moved}, {role.stopped} went, {turns} of direction"


def _cold(cold: ColdStartFigures) -> str:
    parts = {
        "node": cold.node_s,
        "image": cold.image_s,
        f"{number(cold.weight_bytes / GB)} GB of weights": cold.weights_s,
        "over PCIe": cold.to_gpu_s,
        "warm-up": cold.warmup_s,
    }
    told = ", ".join(f"{name} {number(part_s)}" for name, part_s in parts.items() if part_s)
    return f"a cold start takes {number(cold.total_s)} s" + (f" ({told})" if told else "")
