"""What a report has of instances that came and went with the load."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.record.fleet import FleetUse, RoleFleet, RoleScaling
from kvsim.units import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class ColdStartFigures:
    """Seconds from an order until an instance serves, part after part."""

    node_s: float
    image_s: float
    weights_s: float
    to_gpu_s: float
    warmup_s: float
    total_s: float
    weight_bytes: float


@dataclass(frozen=True, kw_only=True)
class RoleScalingFigures:
    """Instances of one role."""

    role: str
    policy: str
    minimum: int
    maximum: int
    cold_start: ColdStartFigures
    started: int
    stopped: int
    moved_in: int
    turns: int
    gpu_hours: float
    least_gpu_hours: float
    wanted: tuple[tuple[float, int], ...]
    """Times in seconds, and how many were wanted from each on."""
    there: tuple[tuple[float, int, int, int], ...]
    """Times in seconds, and how many served, started and were paid from each on."""


@dataclass(frozen=True, kw_only=True)
class ScalingFigures:
    """All roles together: see ``kvsim.record.fleet.ScalingUse``."""

    interval_s: float
    gpu_hours: float
    least_gpu_hours: float
    gap: float
    late_share: float
    violated_s: float
    slo_share: float
    turns_per_hour: float
    simulated_s: float
    bin_s: float
    arrivals: tuple[int, ...]
    late: tuple[int, ...]
    roles: tuple[RoleScalingFigures, ...]


def scaling_figures(fleet: FleetUse | None) -> ScalingFigures | None:
    """``None`` where the number of instances was nobody's to decide."""
    if fleet is None or fleet.scaling is None:
        return None
    use, theirs = fleet.scaling, {role.role: role for role in fleet.roles}
    return ScalingFigures(
        interval_s=use.interval_s,
        gpu_hours=use.gpu_h,
        least_gpu_hours=use.least_gpu_h,
        gap=use.gap,
        late_share=use.late_share,
        violated_s=use.violated_s,
        slo_share=use.slo_share,
        turns_per_hour=use.turns_per_hour,
        simulated_s=use.end_s,
        bin_s=use.bin_s,
        arrivals=use.arrivals,
        late=use.late,
        roles=tuple(_role(role, theirs[role.role]) for role in use.roles),
    )


def _role(use: RoleScaling, fleet: RoleFleet) -> RoleScalingFigures:
    cold = use.cold_start
    return RoleScalingFigures(
        role=use.role,
        policy=use.policy,
        minimum=use.minimum,
        maximum=use.maximum,
        cold_start=ColdStartFigures(
            node_s=cold.node_s,
            image_s=cold.image_s,
            weights_s=cold.weights_s,
            to_gpu_s=cold.to_gpu_s,
            warmup_s=cold.warmup_s,
            total_s=cold.total_s,
            weight_bytes=cold.weight_bytes,
        ),
        started=use.started,
        stopped=use.stopped,
        moved_in=use.moved_in,
        turns=use.turns,
        gpu_hours=use.paid_gpu_s / SECONDS_PER_HOUR,
        least_gpu_hours=use.least_gpu_s / SECONDS_PER_HOUR,
        wanted=tuple(zip(use.times_s, use.wanted, strict=True)),
        there=tuple(zip(fleet.times_s, fleet.serving, fleet.starting, fleet.paid, strict=True)),
    )
