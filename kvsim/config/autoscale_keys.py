"""The schema of ``autoscale``: how many instances there are while a run lasts, and how long one takes to come."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict

from kvsim.config.fleet_keys import RoleName
from kvsim.config.section import Count, Item, Name, NonNegative, Positive, PositiveShare, Section, Share

Metric = Literal["queue", "utilisation", "kv", "ttft"]
METRICS: tuple[Metric, ...] = ("queue", "utilisation", "kv", "ttft")
Forecast = Literal["trace", "last", "ewma", "holt"]


class ScheduleEntry(Item):
    """One entry of ``autoscale.schedule``: so many instances from a time on."""

    at_s: NonNegative
    instances: Count
    role: RoleName | None = None
    """``null``: every one."""


class RoleScaling(Item):
    """One entry of ``autoscale.roles``: what is different for one role. What is not given is as for all."""

    role: RoleName
    policy: Name | None = None
    metric: Metric | None = None
    target: Positive | None = None
    """What an instance is to have of its metric, in the place of ``autoscale.targets``."""
    min_instances: Count | None = None
    max_instances: Count | None = None
    initial_instances: Count | None = None


class Targets(Section):
    """``autoscale.targets``: what an instance is to have of each metric."""

    queue: Positive
    utilisation: Positive
    kv: PositiveShare
    ttft_ms: Positive
    load: PositiveShare


class Coming(Section):
    """``autoscale.cold_start``: sizes and bandwidths that make up the time until a new instance serves."""

    node_s: NonNegative
    image_gb: NonNegative
    registry_gb_per_s: Positive
    image_cached: bool
    weights_gb_per_s: Positive
    pcie_gb_per_s: Positive
    warmup_s: NonNegative


class Autoscale(Section):
    """``autoscale``: instances that come and go with the load."""

    policy: Name
    metric: Metric
    targets: Targets
    interval_s: Annotated[float, Field(ge=0.1)]
    tolerance: Share
    stabilisation_s: NonNegative
    cooldown_up_s: NonNegative
    cooldown_down_s: NonNegative
    max_step_up: Count | None
    max_step_down: Count | None
    min_instances: Count
    max_instances: Count | None
    initial_instances: Count | None
    max_gpus: Count | None
    drain_grace_s: NonNegative | None
    role_change_s: NonNegative | None
    schedule: Annotated[tuple[ScheduleEntry, ...], Strict(False)]
    forecast: Forecast
    horizon_s: NonNegative | None
    noise_cv: NonNegative
    level_smoothing: PositiveShare
    trend_smoothing: Annotated[float, Field(ge=0, le=1)]
    instance_requests_per_s: Positive | None
    roles: Annotated[tuple[RoleScaling, ...], Strict(False)]
    cold_start: Coming

    @property
    def is_on(self) -> bool:
        """Whether instances come and go at all."""
        return self.policy != OFF or any(entry.policy not in (None, OFF) for entry in self.roles)


OFF = "none"
